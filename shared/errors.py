"""Errors that have a name, a sentence and an HTTP status (RFC 9457).

    Problem
    ├── BadRequest 400        the request cannot be read
    ├── Unauthenticated 401   who is asking is not known
    ├── Forbidden 403         who is asking may not do this
    ├── NotFound 404          there is no such thing
    ├── Refused 409           the state of the hospital says no
    ├── PreconditionFailed 412, PreconditionRequired 428
    ├── Invalid 422           readable, but wrong
    ├── TooManyRequests 429
    └── Unavailable 503       cannot know or do now; safe to repeat with the same key

Details are sentences that never repeat input values, because those may name a patient.
"""

from typing import ClassVar


class Problem(Exception):
    """A refusal or failure a person can act on; becomes an `application/problem+json` document."""

    status: ClassVar[int] = 500
    code: str = "internal_error"

    def __init__(
        self, detail: str, *, code: str | None = None, retry_after_seconds: int | None = None, **facts: object
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.retry_after_seconds = retry_after_seconds
        self.facts = facts


class BadRequest(Problem):
    """The request cannot be read."""

    status = 400
    code = "bad_request"


class Unauthenticated(Problem):
    """Who is asking is not known."""

    status = 401
    code = "unauthenticated"


class Forbidden(Problem):
    """Who is asking may not do this."""

    status = 403
    code = "forbidden"


class NotFound(Problem):
    """There is no such thing, or not for the one who asks."""

    status = 404
    code = "not_found"


class Refused(Problem):
    """The state of the hospital says no; nothing was changed."""

    status = 409
    code = "refused"


class PreconditionFailed(Problem):
    """Somebody else changed it since it was read."""

    status = 412
    code = "changed_meanwhile"


class PayloadTooLarge(Problem):
    """The body is larger than the door takes."""

    status = 413
    code = "body_too_large"


class UnsupportedMediaType(Problem):
    """The body is not JSON."""

    status = 415
    code = "not_json"


class Invalid(Problem):
    """Readable, but wrong."""

    status = 422
    code = "invalid"


class PreconditionRequired(Problem):
    """A change of something two people may edit needs the version it was read at."""

    status = 428
    code = "version_required"


class TooManyRequests(Problem):
    """Slow down."""

    status = 429
    code = "too_many_requests"


class Unavailable(Problem):
    """The answer is not known now; repeat with the same key."""

    status = 503
    code = "unavailable"
