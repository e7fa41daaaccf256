"""What can be wrong with an act on a supervision order: named conditions, as in `errors`."""

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import act_term, command, listed, name, term
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.words import OrderStage


class UnknownOrder(Refused):
    """This ledger has no such order."""

    condition = Condition.MISSING
    field = "header.case_id"
    remedy = "Check the number: `kx supervise list` shows the orders of this bureau."
    remedy_chinese = "请核对督办单编号，可用 kx supervise list 查看本单位的督办单。"

    def __init__(self, bureau: str, order_id: str) -> None:
        super().__init__(
            f"Bureau {bureau} has no supervision order {order_id or '(empty)'}.",
            f"单位 {bureau} 没有督办单 {order_id or '（空）'}。",
        )


class OrderActNotAllowed(Refused):
    """An order has no such act at this stage."""

    def __init__(
        self, order_id: str, stage: OrderStage, act: type[OrderAct], allowed: tuple[type[OrderAct], ...]
    ) -> None:
        if allowed:
            self.remedy = f"At this stage one can: {', '.join(map(command, allowed))}."
            self.remedy_chinese = f"目前可以：{listed(map(act_term, allowed))}。"
        elif stage in {OrderStage.CLOSED, OrderStage.CANCELLED}:
            self.remedy = "The order has ended; issue another one if need be."
            self.remedy_chinese = "该督办单已经结束；如有需要，请另行下达。"
        else:
            self.remedy = "Wait for the bureau that issued it to decide."
            self.remedy_chinese = "请等待下达单位作出决定。"
        super().__init__(
            f"{command(act)} is not possible: order {order_id} is {name(stage)}.",
            f"不能{act_term(act)}：督办单 {order_id} {term(stage)}。",
        )


class NotTheIssuer(Refused):
    """The act is for the bureau that issued the order."""

    condition = Condition.FORBIDDEN
    field = "header.bureau"

    def __init__(self, order_id: str, act: type[OrderAct], issuer: str) -> None:
        self.remedy = f"Bureau {issuer} issued it and decides."
        self.remedy_chinese = f"该督办单由单位 {issuer} 下达，由其决定。"
        super().__init__(
            f"{command(act)} is not for this bureau: order {order_id} is not its own.",
            f"本单位无权{act_term(act)}：督办单 {order_id} 不是本单位下达的。",
        )


class NotTheReceiver(Refused):
    """The act is for the bureau that the order is for."""

    condition = Condition.FORBIDDEN
    field = "header.bureau"

    def __init__(self, order_id: str, act: type[OrderAct], final_bureau: str) -> None:
        self.remedy = f"Bureau {final_bureau} is to answer it."
        self.remedy_chinese = f"该督办单应由单位 {final_bureau} 回复。"
        super().__init__(
            f"{command(act)} is not for this bureau: order {order_id} is for another.",
            f"本单位无权{act_term(act)}：督办单 {order_id} 不是下达给本单位的。",
        )


class NotASubordinate(Refused):
    """An order goes down the tree alone."""

    condition = Condition.INVALID
    remedy = "Name a direct or indirect subordinate by its six-digit code."
    remedy_chinese = "请填写本单位直接或间接下级的六位代码。"

    def __init__(self, bureau: str, code: str, field: str) -> None:
        self.field = field
        super().__init__(
            f"Bureau {code or '(empty)'} is no subordinate of {bureau}.",
            f"单位 {code or '（空）'} 不是单位 {bureau} 的下级。",
        )


class NoSubordinates(Refused):
    """An order goes down the tree, and nothing is below."""

    remedy = "A bureau with subordinates can; check the tree."
    remedy_chinese = "有下级的单位才可以下达，请核对机构树。"

    def __init__(self, bureau: str) -> None:
        super().__init__(
            f"Bureau {bureau} has no subordinates to give orders to.", f"单位 {bureau} 没有下级单位，不能下达督办。"
        )


class DerivedOrdersOpen(Refused):
    """An order is answered before those derived from it are (§五(三))."""

    field = "because"
    remedy = "Wait for their answers, or say why it is answered without them."
    remedy_chinese = "请等待下级回复，或者说明先行回复的理由。"

    def __init__(self, order_id: str, open_orders: tuple[str, ...]) -> None:
        super().__init__(
            f"Order {order_id} has derived orders without an answer: {', '.join(open_orders)}.",
            f"由督办单 {order_id} 转下级的督办单尚未回复：{listed(open_orders)}。",
        )


class OrderMisdirected(Refused):
    """A statement or a report on an order came a way that the tree, or this ledger, does not give it."""

    condition = Condition.FORBIDDEN
    remedy = "Compare the trees of both nodes, and both ledgers."
    remedy_chinese = "请核对双方的机构树和台账。"

    def __init__(self, order_id: str, from_bureau: str) -> None:
        """`order_id` is empty where the order is not one of this ledger."""
        super().__init__(
            f"Bureau {from_bureau} cannot speak of {f'order {order_id}' if order_id else 'this order'} here.",
            f"{f'督办单 {order_id} ' if order_id else '该督办单'}不应由单位 {from_bureau} 传来。",
        )


class OrderNamesake(Refused):
    """The number is of another order: a ledger restored from a backup has used it again."""

    condition = Condition.CONFLICT
    field = "nonce"
    remedy = "Compare both ledgers; cancel the later order and issue it under a new number."
    remedy_chinese = "请核对双方台账，撤销后一份督办单，用新的编号重新下达。"

    def __init__(self, order_id: str) -> None:
        super().__init__(
            f"Order {order_id} is another one in this ledger.", f"本台账中的督办单 {order_id} 是另一份督办单。"
        )
