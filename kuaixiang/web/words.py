"""The Chinese of the sentences that all pages share, beside their English, which the templates use."""

from collections.abc import Mapping
from typing import Final

SHARED: Final[Mapping[str, str]] = {
    "Kuaixiang": "快响",
    "To the content": "跳到正文",
    "Pages": "页面",
    "Demonstration, no password": "演示环境，免密码",
    "Business time": "业务时间",
    "Step out": "退出",
    "Keyboard": "快捷键",
    "This list": "显示快捷键",
    "Close": "关闭",
    "Not possible": "无法办理",
    "To the first page": "返回首页",
    "Step in as somebody else": "换一个岗位进入",
    "The connection is lost, and nothing has been confirmed. Keep this page and press again: it cannot be done "
    "twice.": ("与服务器的连接已中断，本次操作尚未确认。请保留本页，恢复后再按一次即可，不会重复办理。"),
    "The service failed": "系统故障",
    "The fault is in its log. Nothing that was answered before is lost. Look whether your last act is there before you "
    "repeat it.": "故障已记入日志，此前已确认的操作不会丢失。重新操作之前，请先核对上一次操作是否已经生效。",
    "Step in": "进入",
    "Nobody can step in here yet: this service has no way to sign in.": "本服务尚未配置登录方式，暂时无法进入。",
    "This is the demonstration on one machine: everybody here is made up, and no password is asked for.": (
        "这是单机演示环境：人员均为虚构，无需密码。"
    ),
    "Sign in": "登录",
    "Sign out": "退出登录",
    "Change role": "切换岗位",
    "Your sign-in has ended. What you had typed is kept: sign in again, and send it once more.": (
        "登录已失效，已填写的内容仍保留：请重新登录后再次提交。"
    ),
    "You have signed out.": "已退出登录。",
    "Sign out at the identity provider too": "同时退出统一身份认证平台",
    "Sign in at the identity provider": "通过统一身份认证登录",
    "The provider opens in a window of its own, and this one keeps what you had typed. When you have signed in there, "
    "go on here.": ("统一身份认证将在新窗口打开，本页保留已填写的内容；在新窗口登录后，请回到本页继续。"),
    "I have signed in: go on": "已登录，继续",
    "Signed in": "已登录",
    "Officer's number": "人员编号",
    "Password": "密码",
    "Old password": "原密码",
    "Choose a new password": "设置新密码",
    "%(min)s to %(max)s characters, neither your number nor the old password.": (
        "%(min)s 至 %(max)s 个字符，不得与人员编号或原密码相同。"
    ),
    "New password": "新密码",
    "New password again": "再次输入新密码",
    "Signed in again": "已重新登录",
    "What you had typed is here, and nothing of it has been done yet. Files must be chosen again.": (
        "此前填写的内容已保留，尚未提交；附件须重新选择。"
    ),
    "It will be done in your name:": "将以您的身份办理：",
    "Send it now": "立即提交",
    "In what capacity": "选择岗位",
    "Go on": "进入",
    "Go on as %(role)s, %(department)s": "以 %(department)s %(role)s 的身份进入",
    "Bureau": "单位",
    "Officer": "人员",
    "Role": "岗位",
    "Department": "部门",
    "Step in as %(name)s, %(role)s": "以%(role)s %(name)s 的身份进入",
    "extended": "已延期",
    "closed": "已了结",
    "Pages of the list": "列表翻页",
    "First page": "首页",
    "Next page": "下一页",
}
