"""Every variable the access service reads, named once."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the access service needs beyond what every service needs."""

    signing_key_file: Path = Field(description="JSON file with the signing keys, mode 0600; made when absent.")
    bootstrap_file: Path | None = Field(
        default=None, description="JSON file, mode 0600, with the first accounts and their passwords; made when absent."
    )
    token_seconds: int = Field(default=900, ge=60, le=900, description="How long an access token is valid.")
    session_seconds_max: int = Field(default=43_200, description="A session ends after this, however busy (S7).")
    session_idle_seconds_max: int = Field(default=3_600, description="A session not refreshed for this long ends.")
    secure_cookies: bool = Field(default=False, description="Refresh cookie over TLS only; true in production.")
    failed_logins_per_minute_max: int = Field(default=10, ge=1, description="Failed logins per name and minute (S10).")
    failed_logins_per_address_and_minute_max: int = Field(
        default=60, ge=1, description="Failed logins per client address and minute (S10)."
    )

    @model_validator(mode="after")
    def _verify_with_own_keys(self) -> Self:
        if not self.jwks_url:
            self.jwks_url = f"http://127.0.0.1:{self.port}/api/access/.well-known/jwks.json"
        return self
