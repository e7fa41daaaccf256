"""Texts: masking, near-duplicates and common issues, on real messages of citizens: `python -m bench.texts`.

The messages are `citizen-messages-zh.csv.gz` in the folder that KX_DATA names (by default ../shared/data); without them
there is nothing to measure. What is right is held by other means than those measured: repeats by counting all sequences
of five characters that two messages share, numbers by patterns of their own, names by having put them there.
"""

import csv
import gzip
import os
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import results
from demo.content import fictional_taxpayer, load_requests
from hub.issues.joining import find_clusters
from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.text.forms import narrow
from kuaixiang.text.masking import mask, private_spans
from kuaixiang.text.similar import SIMILAR_MIN, SketchIndex, normal, similarity, sketch
from kuaixiang.text.terms import key_terms

FILE = "citizen-messages-zh.csv.gz"
SHINGLE = 5
REPEAT_JACCARD, REPEAT_CONTAINED, REPEAT_CHARACTERS = 0.5, 0.7, 40
"""An obvious repeat: so much of both messages, or of the shorter one of at least so many characters, is in common."""
KIN_JACCARD, KIN_CONTAINED = 0.2, 0.5
"""Not obvious, but no false alarm either: the same people on the same matter in other words."""
COMPARED = 50
REWRITTEN = 500
CLUSTERED = 10_000
SLICE = 100
SEED = 2019
SHORT = 2_000
"""Messages of the smallest size."""


@dataclass(frozen=True)
class Message:
    title: str
    text: str
    label: str


@dataclass
class Figures:
    """What is measured, told as it is found."""

    rows: list[results.Row] = field(default_factory=list)

    def say(self, name: str, value: float, told: str, unit: str = "share") -> None:
        self.rows.append(results.Row(name=name, value=value, unit=unit))
        print(told)


def read(path: Path) -> list[Message]:
    """The messages, without what the file's maker left of his tools."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [
            Message(row["title"], row["detail"].replace("_x000D_", ""), row["category"]) for row in csv.DictReader(file)
        ]


# ---------------------------------------------------------------- masking

NUMBERS = {
    "mobile": re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)"),
    "landline": re.compile(r"(?<!\d)0\d{2,3}[- ]?[2-9]\d{6,7}(?!\d)"),
    "identity": re.compile(r"(?<!\d)\d{17}[\dXx](?!\d)|(?<!\d)\d{15}(?!\d)"),
    "seven digits and more": re.compile(r"(?<![\d.])\d{7,}(?![\d.]|元|万|亿|平)"),
    "e-mail": re.compile(r"[\w.]+@[\w-]+\.[A-Za-z]+"),
}
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华文辉力健世广志义兴良海山仁波宁贵福生龙元全国胜学祥才发武新利清飞彬富顺信子豪梓涵宇轩欣怡诗雅若彤"
SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江"
TEMPLATES = (
    "请问{P}的社保缴费记录能不能从{C}转到个人名下？身份证{I}。",
    "{P}反映{C}长期不开票，希望税务机关上门核查，电话{T}。",
    "{A}的仓库是{C}租的，印花税应该由谁来交？经办人{P}。",
    "上次接待我的{P}老师说可以退，这次{P}又说不行，到底以谁为准？",
    "申请人：{P}；单位：{C}；识别号：{N}；事项：更正申报。",
    "由于{P}已经离职，{C}的税控设备无法抄报，请联系{T}。",
    "我和{P}合伙开店，店址{A}，经营所得怎么分别申报？",
    "{C}（{N}）的股东{P}转让股权，个人所得税在哪里申报？",
    "请把完税证明寄给{P}，{A}，{T}。",
    "有个叫{P}的人冒用我的身份证{I}在{C}领工资。",
    "税务所{P}所长答应周五前解决，至今没有消息，请督促。",
    "扣款账户{B}户名{P}，三方协议一直验证不通过。",
)


def private(rng: random.Random) -> dict[str, str]:
    """Made-up private data of each kind, nobody's."""
    taxpayer = fictional_taxpayer(rng, "330106")
    name = rng.choice(SURNAMES) + "".join(rng.choices(GIVEN, k=rng.choice((1, 2, 2))))
    birth = f"19{rng.randrange(50, 99)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"
    phone = f"1{rng.choice('3578')}{rng.randrange(10**9):09}"
    return {
        "P": name,
        "C": rng.choice(("", "杭州", "宁波市")) + taxpayer.name,
        "T": rng.choice((phone, f"{phone[:3]} {phone[3:7]} {phone[7:]}", f"0571-8{rng.randrange(10**7):07}")),
        "A": f"{rng.choice(('西湖区', '余杭区', ''))}{rng.choice(GIVEN)}{rng.choice(GIVEN)}{rng.choice(('路', '街', '大道'))}"
        f"{rng.randrange(1, 999)}号{rng.choice(('', f'{rng.randrange(1, 30)}幢{rng.randrange(100, 2000)}室'))}",
        "I": f"330106{birth}{rng.randrange(1000):03}{rng.choice('0123456789X')}",
        "N": make_taxpayer_number("330106", rng.randrange(10**6)),
        "B": f"62{rng.randrange(10**17):017}",
    }


def masking(messages: Sequence[Message], figures: Figures) -> None:
    started = time.perf_counter()
    masked = [mask(f"{message.title}。{message.text}") for message in messages]
    seconds = time.perf_counter() - started
    before, after = Counter[str](), Counter[str]()
    for message, text in zip(messages, masked, strict=True):
        for name, pattern in NUMBERS.items():
            before[name] += len(pattern.findall(narrow(f"{message.title}。{message.text}")))
            after[name] += len(pattern.findall(text))
    milliseconds = 1000 * seconds / len(messages)
    figures.say(
        "masking a message", milliseconds, f"masking {len(messages)} messages: {milliseconds:.2f} ms each", "ms"
    )
    for name in NUMBERS:
        figures.say(
            f"left {name}", after[name], f"  {name}: {before[name]} found before, {after[name]} after masking", "found"
        )
    rng = random.Random(SEED)
    there, left = Counter[str](), Counter[str]()
    told = 0
    for number in range(3_000):
        secrets = private(rng)
        template = TEMPLATES[number % len(TEMPLATES)]
        found = mask(template.format(**secrets))
        told += not {secrets["P"], secrets["C"]}.isdisjoint(
            word for term in key_terms(template.format(**secrets)) for word in term.split()
        )
        for kind, secret in secrets.items():
            if f"{{{kind}}}" in template:
                there[kind] += 1
                # Of a name any two neighbouring characters tell; of a number only the whole.
                parts = {secret[at : at + 2] for at in range(len(secret) - 1)} if kind == "P" else {secret}
                parts |= {secret.removeprefix("杭州").removeprefix("宁波市")[:3]} if kind == "C" else set()
                left[kind] += any(part in found for part in parts)
    kinds = {"P": "persons", "C": "companies", "A": "addresses", "T": "telephones", "I": "identity numbers"}
    kinds |= {"N": "tax numbers", "B": "bank cards"}
    for kind, name in kinds.items():
        share = left[kind] / there[kind]
        figures.say(f"leaked {name}", share, f"  made-up {name}: {left[kind]} of {there[kind]} left ({share:.2%})")
    figures.say("names told", told, f"  names among the key terms of these 3,000 texts: {told}", "texts")
    own = [text for request in load_requests() for text in (request.text, request.reply)]
    hidden = sum(span.end - span.start for text in own for span in private_spans(narrow(text)))
    share = hidden / sum(map(len, own))
    figures.say(
        "over-masked characters", share, f"  of texts with nothing private {share:.2%} of the characters are masked"
    )


# ---------------------------------------------------------------- near-duplicates


def shingles(text: str) -> set[str]:
    """The sequences of five characters in a text, marks left out."""
    plain = re.sub(r"[^0-9A-Za-z\u4e00-\u9fff]", "", text)
    return {plain[at : at + SHINGLE] for at in range(len(plain) - SHINGLE + 1)}


def alike(messages: Sequence[Message]) -> dict[tuple[int, int], tuple[float, float]]:
    """Of every two messages that share a sequence: (shared of both, shared of the shorter one)."""
    own = [shingles(message.text) for message in messages]
    places: dict[str, list[int]] = defaultdict(list)
    for place, some in enumerate(own):
        for shingle in some:
            places[shingle].append(place)
    common: Counter[tuple[int, int]] = Counter()
    for at in places.values():
        common.update((first, second) for index, second in enumerate(at) for first in at[:index])
    found = {}
    for (first, second), count in common.items():
        shorter = min(len(own[first]), len(own[second]))
        contained = count / shorter if shorter >= REPEAT_CHARACTERS else 0.0
        found[first, second] = count / (len(own[first]) + len(own[second]) - count), contained
    return found


def slips(rng: random.Random, text: str) -> str:
    """One character of twenty is another one."""
    return "".join(rng.choice("的了是在有我不人这个") if rng.random() < 1 / 20 else one for one in text)


REWRITES: dict[str, Callable[[random.Random, str], str]] = {
    "marks": lambda _, text: re.sub(r"[，。！？、；：]", " ", text),
    "courtesies": lambda _, text: f"尊敬的领导：您好！{text}望尽快回复，谢谢！",
    "broken off": lambda rng, text: text[: int(len(text) * rng.uniform(0.5, 0.8))],
    "continued": lambda rng, text: text + "".join(rng.choices(text, k=len(text) // 3)),
    "slips of the pen": slips,
    "sentences in another order": lambda rng, text: "。".join(rng.sample(parts := text.split("。"), len(parts))),
}


def duplicates(messages: Sequence[Message], figures: Figures) -> set[tuple[int, int]]:
    started = time.perf_counter()
    normals = [normal(message.text) for message in messages]
    index = SketchIndex()
    for place, text in enumerate(normals):
        index.add(place, sketch(text))
    indexed = time.perf_counter()

    def flagged(text: str) -> dict[int, float]:
        found = ((place, similarity(text, normals[place])) for place in index.candidates(sketch(text), COMPARED))
        return {place: value for place, value in found if value >= SIMILAR_MIN}

    pairs = {
        (min(place, other), max(place, other))
        for place, text in enumerate(normals)
        for other in flagged(text)
        if other != place
    }
    asked = time.perf_counter()
    shared = alike(messages)
    repeats = {pair for pair, (both, part) in shared.items() if both >= REPEAT_JACCARD or part >= REPEAT_CONTAINED}
    kin = {pair for pair, (both, part) in shared.items() if both >= KIN_JACCARD or part >= KIN_CONTAINED}
    print(
        f"near-duplicates: {len(messages)} messages indexed at {1000 * (indexed - started) / len(messages):.2f} ms, "
        f"looked up at {1000 * (asked - indexed) / len(messages):.2f} ms each"
    )
    recall = len(pairs & repeats) / len(repeats)
    precision, strict = len(pairs & kin) / len(pairs), len(pairs & repeats) / len(pairs)
    figures.say(
        "duplicates, recall", recall, f"  recall {recall:.3f}: {len(pairs & repeats)} of {len(repeats)} repeats"
    )
    figures.say(
        "duplicates, precision",
        precision,
        f"  precision {precision:.3f} of {len(pairs)} pairs flagged ({strict:.3f} counting obvious repeats alone)",
    )
    rng = random.Random(SEED)
    long = [place for place, text in enumerate(normals) if len(text) >= REPEAT_CHARACTERS]
    chosen = rng.sample(long, REWRITTEN)
    known = {place: {place, *(other for pair in kin if place in pair for other in pair)} for place in chosen}
    for name, rewrite in REWRITES.items():
        hits = alarms = 0
        for place in chosen:
            found = flagged(normal(rewrite(rng, messages[place].text)))
            hits += place in found
            alarms += len(found.keys() - known[place])
        share = hits / len(chosen)
        figures.say(f"rewritten {name}", share, f"  rewritten, {name}: recall {share:.3f}, {alarms} false alarms")
    return repeats


# ---------------------------------------------------------------- common issues


def issues(messages: Sequence[Message], repeats: Iterable[tuple[int, int]], figures: Figures) -> None:
    started = time.perf_counter()
    terms = [key_terms(f"{message.title}。{message.text}") for message in messages]
    taken = time.perf_counter()
    print(f"common issues: key terms taken at {1000 * (taken - started) / len(messages):.2f} ms a message")
    pairs = list(repeats)
    for least in (2, 3):
        of = {place: at for at, one in enumerate(find_clusters(terms, [], least)) for place in one.members}
        together = sum(first in of and of[first] == of.get(second) for first, second in pairs)
        labels: dict[int, Counter[str]] = defaultdict(Counter)
        for place, message in enumerate(messages):
            if message.label and place in of:
                labels[of[place]][message.label] += 1
        shared = [counts for counts in labels.values() if counts.total() > 1]
        pure, total = sum(max(counts.values()) for counts in shared), sum(counts.total() for counts in shared)
        figures.say(
            f"clusters of {least} and more, recall",
            together / len(pairs),
            f"  clusters of {least} and more: {len(set(of.values()))}, {len(of)} messages in them",
        )
        figures.say(
            f"clusters of {least} and more, purity",
            pure / total,
            f"    obvious repeats together: {together / len(pairs):.3f}; purity by label {pure / total:.3f} "
            f"(7 classes, {total} labelled messages that share a cluster)",
        )
    slices = [
        message.text[at : at + SLICE]
        for message in messages
        for at in range(0, len(message.text), SLICE)
        if len(message.text[at : at + SLICE]) > SLICE // 2
    ]
    chosen = random.Random(SEED).sample(slices, min(CLUSTERED, len(slices)))
    started = time.perf_counter()
    some = [key_terms(text) for text in chosen]
    taken = time.perf_counter()
    found = find_clusters(some, [])
    ended = time.perf_counter()
    figures.say(
        "clustering 10,000 texts",
        ended - started,
        f"  {len(chosen)} texts (slices of {SLICE} characters of the messages): {ended - started:.1f} s, of that "
        f"{taken - started:.1f} s masking and taking terms, {ended - taken:.1f} s clustering; {len(found)} clusters",
        "s",
    )


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    arguments = results.parse(parser)
    path = Path(os.environ.get("KX_DATA", "../shared/data"), FILE)
    if not path.exists():
        print(f"{path} is not there: nothing is measured. KX_DATA names the folder of {FILE}.")
        return
    figures = Figures()
    messages = read(path)[: SHORT if arguments.short else None]
    masking(messages, figures)
    issues(messages, duplicates(messages, figures), figures)
    results.report("texts", figures.rows, arguments)


if __name__ == "__main__":
    main()
