"""What a QR code leads to: one page, one sum, at most one button. It says what is paid and how much, never for whom."""

import base64
import hashlib
from datetime import UTC, datetime
from html import escape
from typing import Any

from fastapi import Response

from shared.money import yuan_text

_STYLE = """
body { margin: 0; padding: 2rem 1rem; font: 1.25rem/1.5 sans-serif; color: #111; background: #f5f5f5; text-align: center; }
main { max-width: 24rem; margin: auto; padding: 2rem; background: #fff; border-radius: .5rem; }
.sum { font-size: 2.5rem; font-weight: bold; margin: 1rem 0; }
button { width: 100%; min-height: 60px; font-size: 1.5rem; color: #fff; background: #00693e; border: 0; border-radius: .5rem; }
small { color: #555; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_METHODS = {"wechat": "微信支付", "alipay": "支付宝"}


def page(order: dict[str, Any] | None) -> Response:
    """Return the page of an order, or one that says there is none."""
    if order is None:
        return plain_page("没有这个订单", "<p>请向收费窗口核对二维码。</p>", 404)
    paid_fen = order["amount_fen"] if order["paid_fen"] is None else order["paid_fen"]
    words = f"<p>{escape(order['description'])}</p><p class=sum>{yuan_text(paid_fen)}</p>"
    if order["state"] == "SUCCESS":
        return plain_page("已支付", words)
    if order["state"] == "CLOSED":
        return plain_page("订单已关闭", words + "<p>没有扣款。</p>")
    if datetime.now(UTC) >= datetime.fromisoformat(order["expires_at"]):
        return plain_page("订单已过期", words + "<p>没有扣款，请重新扫码。</p>")
    return plain_page(_METHODS[order["method"]], words + "<form method=post><button>支付</button></form>")


def plain_page(title: str, words: str, status: int = 200) -> Response:
    """Return a page with a title and a few words, which are HTML already."""
    text = (
        '<!doctype html><html lang="zh-CN"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style>"
        f"<main><h1>{title}</h1>{words}<small>演示环境，不会真正扣款。</small></main></html>"
    )
    return Response(text, status, _HEADERS, "text/html")
