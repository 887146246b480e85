"""Settings of the follow-up service: everything a hospital decides about it."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import ServiceSettings

DATA = Path(__file__).parent / "data"


class Rules(BaseSettings):
    """What a hospital decides; has a default for everything, so that the rules exist without a database."""

    model_config = SettingsConfigDict(env_prefix="WARDSTREAM_", extra="ignore", frozen=True)

    templates_file: Path = Field(default=DATA / "templates.csv", description="Follow-up templates: items and windows.")
    template_rules_file: Path = Field(
        default=DATA / "template_rules.csv", description="Which procedure or specialty takes which template."
    )
    first_contact_against_advice_hours: int = Field(
        default=24,
        ge=1,
        description="First contact with a patient who left against advice, at the latest (离院方式 4).",
    )
    readmission_days: int = Field(
        default=31, ge=1, description="A return within so many days counts as readmission (病案首页)."
    )
    overdue_grace_hours: int = Field(
        default=24, ge=0, description="How long after its window a task may still be done before it escalates."
    )

    def templates(self) -> str:
        """Return the text of the templates."""
        return self.templates_file.read_text("utf-8")

    def template_rules(self) -> str:
        """Return the text of the rules that choose a template."""
        return self.template_rules_file.read_text("utf-8")


class Settings(ServiceSettings):
    """What every service needs; the hospital's decisions are in `Rules`."""
