"""The Chinese of the stage's sentences, beside their English, which the templates use."""

from collections.abc import Mapping
from typing import Final

CHINESE: Final[Mapping[str, str]] = {
    "Stage": "演示台",
    "A whole federation on this machine: every bureau keeps its own ledger, cases travel along the tree, the hub folds "
    "all journals into the national figures.": (
        "单机上的一整套联邦台账：每个单位各有台账，诉求沿层级移交，汇总中心把全部台账汇成全国数据。"
    ),
    "Everything here is made up. This page answers on this machine only (127.0.0.1) and asks for no password.": (
        "数据均为虚构。本页面仅限本机（127.0.0.1）访问，免密码。"
    ),
    "Without scripts this page stays as it was loaded: load it again for the present state.": (
        "浏览器未启用脚本，页面不会自动更新：请刷新查看最新状态。"
    ),
    "Choose a bureau; who you are there is chosen on the next page.": "选择单位，下一页选择人员和岗位。",
    "Desk": "工作台",
    "National board": "全国看板",
    "Board of %(code)s": "%(code)s 看板",
    "down": "停机",
    "no pages": "未提供页面",
    "The tree now": "层级实时图",
    "The fortnight is being played: the clock moves by itself.": "正在播放两周演示，时间自动推进。",
    "%(count)s open": "未销号 %(count)s",
    "journal %(count)s": "台账 %(count)s 条",
    "lacks %(count)s": "缺 %(count)s",
    "complete": "已齐",
    "Hub": "汇总中心",
    "folded %(count)s": "已汇 %(count)s 条",
    "Tree of bureaus, each leading to its desk: state, open cases, journal entries and how many of them the hub "
    "lacks": ("单位层级图（点击进入工作台）：状态、未销号诉求、台账条数及汇总缺少的条数"),
    "Solid lines: cases between superior and subordinate; beside them how many of the latest %(count)s hand-overs went "
    "up ↑ or down ↓. Dashed lines: journals on their way to the hub.": (
        "实线：上下级之间的移交，旁注为最近 %(count)s 次移交中上行 ↑ 与下行 ↓ 的次数；虚线：台账汇入汇总中心。"
    ),
    "Moving dot: a case; moving square: a result on its way back.": "移动的圆点为诉求，方块为回传的结果。",
    "Ledgers by bureau: cases by where they stand, journal entries": "各单位台账：诉求所处环节、台账条数",
    "State": "状态",
    "Journal": "台账条数",
    "Hub lacks": "汇总缺",
    "All": "合计",
    "Latest hand-overs": "最近移交",
    "None yet.": "暂无。",
    "from": "从",
    "to": "到",
    "What has happened": "事件记录",
    "Nothing has happened yet.": "暂无。",
    "Controls": "操作",
    "They open when the fortnight is over.": "两周演示结束后可操作。",
    "Move the business clock on": "拨动业务时钟",
    "By an hour": "一小时",
    "To the next working morning": "到下一个工作日上班",
    "By a working day": "一个工作日",
    "Links of the provinces": "各省链路",
    "linked": "连通",
    "cut": "已切断",
    "Cut": "切断",
    "Cut the link of %(bureau)s": "切断 %(bureau)s 的链路",
    "Restore": "恢复",
    "Restore the link of %(bureau)s": "恢复 %(bureau)s 的链路",
    "Nodes": "节点",
    "Kill": "停掉",
    "Kill the node of %(bureaus)s (kill -9)": "停掉 %(bureaus)s 的节点（kill -9）",
    "Restart": "重启",
    "Restart the node of %(bureaus)s": "重启 %(bureaus)s 的节点",
    "Kill the hub of %(bureaus)s (kill -9)": "停掉 %(bureaus)s 的汇总中心（kill -9）",
    "Restart the hub of %(bureaus)s": "重启 %(bureaus)s 的汇总中心",
    "Kill ends a process without warning (kill -9).": "“停掉”即不加预告地结束进程（kill -9）。",
}
