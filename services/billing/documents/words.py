"""Every printed word of the billing documents, Chinese beside English; amounts and names are not words."""

from typing import Literal

from services.billing.documents.model import ItemClass
from services.billing.domain import DepositMethod

Language = Literal["zh-CN", "en"]
Pair = tuple[str, str]
"""The same in Chinese and in English."""

ITEM_CLASS: dict[ItemClass, Pair] = {
    "bed": ("床位费", "Bed"),
    "consultation": ("诊察费", "Consultation"),
    "examination": ("检查费", "Examination"),
    "laboratory": ("化验费", "Laboratory"),
    "treatment": ("治疗费", "Treatment"),
    "operation": ("手术费", "Operation"),
    "nursing": ("护理费", "Nursing"),
    "consumables": ("卫生材料费", "Consumables"),
    "western_medicine": ("西药费", "Western medicine"),
    "herbal_medicine": ("中药饮片费", "Herbal medicine"),
    "patent_medicine": ("中成药费", "Chinese patent medicine"),
    "general_consultation": ("一般诊疗费", "General consultation"),
    "registration": ("挂号费", "Registration"),
    "other": ("其他费", "Other"),
}

METHOD: dict[DepositMethod, Pair] = {
    "cash": ("现金", "Cash"),
    "bank_card": ("银行卡", "Bank card"),
    "wechat": ("微信支付", "WeChat Pay"),
    "alipay": ("支付宝", "Alipay"),
    "bank_transfer": ("银行转账", "Bank transfer"),
    "blood_centre": ("无偿献血用血减免", "Waiver for a blood donor"),
}

UNIT_IN_ENGLISH = {
    "日": "day",
    "天": "day",
    "床日": "bed day",
    "小时": "hour",
    "分钟": "minute",
    "次": "time",
    "项": "test",
    "部位": "site",
    "盒": "box",
    "瓶": "bottle",
    "支": "ampoule",
    "片": "tablet",
    "粒": "capsule",
    "袋": "bag",
    "个": "piece",
    "套": "set",
    "包": "pack",
    "根": "piece",
    "人次": "visit",
}
"""Units as price lists write them; another one is printed as it is."""

WORDS: dict[str, Pair] = {
    "settlement_list": ("住院费用结算单", "Settlement of inpatient charges"),
    "interim_list": ("住院费用中途结算单", "Interim settlement of inpatient charges"),
    "itemised_list": ("住院费用清单", "Itemised list of inpatient charges"),
    "daily_list": ("住院费用一日清单", "Itemised list of one day"),
    "receipt": ("医疗收费电子票据", "Electronic medical receipt"),
    "red_receipt": ("医疗收费电子票据（冲红）", "Electronic medical receipt (voiding)"),
    "receipt_is_elsewhere": (
        "本页供阅读。有效票据以财政电子票据平台上的为准，请扫码查验。",
        "This page is for reading. The receipt that counts is the one behind the code.",
    ),
    "receipt_pending": ("电子票据尚未开具", "The electronic receipt has not been issued yet"),
    "deposit_slip": ("住院预交金收据", "Receipt for an inpatient deposit"),
    "discharge_pack": ("出院资料包", "Discharge documents"),
    "contents": ("本资料包内含", "In this pack"),
    "what_it_came_to": ("费用概要", "In short"),
    "name": ("姓名", "Name"),
    "admission_no": ("住院号尾号", "Admission no. ends in"),
    "ward": ("病区", "Ward"),
    "bed": ("床号", "Bed"),
    "admitted": ("入院时间", "Admitted"),
    "discharged": ("出院时间", "Discharged"),
    "in_hospital": ("在院", "in hospital"),
    "payment_group": ("病种分组", "Payment group"),
    "settlement_no": ("结算次序", "Settlement no."),
    "settled": ("结算时间", "Settled"),
    "period": ("费用日期", "Charges of"),
    "lines": ("明细条数", "Lines"),
    "time": ("时间", "Time"),
    "code": ("项目编码", "Code"),
    "item": ("项目名称", "Item"),
    "unit": ("单位", "Unit"),
    "quantity": ("数量", "Quantity"),
    "price": ("单价", "Unit price"),
    "amount": ("金额", "Amount"),
    "subtotal": ("小计", "Subtotal"),
    "total": ("合计", "Total"),
    "class": ("费用类别", "Class"),
    "nothing_charged": ("无费用记录", "No charges"),
    "charged": ("费用总额", "Total charged"),
    "capitals": ("人民币（大写）", "In Chinese capitals"),
    "who_pays": ("费用分担", "Who pays"),
    "fund": ("医保基金支付", "Insurance fund"),
    "account": ("医保个人账户支付", "Personal insurance account"),
    "patient": ("个人负担", "Patient"),
    "deposits": ("预交金", "Deposits"),
    "slip_no": ("收据号", "Slip no."),
    "method": ("方式", "Method"),
    "paid_at": ("交款时间", "Paid"),
    "no_deposits": ("无预交金", "No deposits"),
    "deposits_total": ("预交金合计", "Deposits in total"),
    "collected": ("本次补交", "Paid at settlement"),
    "refunded": ("本次退还（原路退回）", "Given back, the way it came"),
    "balance": ("多退少补", "Balance"),
    "nothing_due": ("无补交，无退款", "Nothing to pay, nothing to give back"),
    "receipt_no": ("票据号码", "Receipt no."),
    "check_code": ("校验码", "Check code"),
    "issued": ("开票时间", "Issued"),
    "voids": ("冲红原票据号码", "Voids receipt no."),
    "scan": ("扫码查验票据", "Scan to check"),
    "paid_in": ("本次预交", "Paid in"),
    "held": ("预交金余额", "Deposits held"),
    "printed": ("打印时间", "Printed"),
    "page": ("第 {} 页，共 {} 页", "Page {} of {}"),
}


def said(pair: Pair, language: Language) -> str:
    """Return the words in the language that was asked for."""
    return pair[0] if language == "zh-CN" else pair[1]
