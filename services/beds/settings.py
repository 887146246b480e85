"""Settings of the bed pool: everything a hospital decides about it."""

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Hold time, horizon and the layout a new hospital starts with."""

    hold_minutes: int = Field(
        default=240, ge=1, description="How long an assigned bed is kept for a patient who has not come."
    )
    horizon_hours: int = Field(default=24, ge=0, description="Requests for later than this wait without a bed.")
    overrun_minutes: int = Field(
        default=15, ge=1, description="By how much a day bed is extended while its patient is still in it."
    )
    layout_file: Path = Field(
        default=Path(__file__).parent / "data" / "hospital.yaml", description="Beds a new, empty pool starts with."
    )

    refusal_minutes: int = Field(
        default=30,
        ge=1,
        description="How long a ward may refuse a bed that was assigned; if it says nothing, the bed managers are told.",
    )
    travel_grace_minutes_max: int = Field(
        default=360, ge=0, description="By how much the way of a patient from afar lengthens the hold at most."
    )
    newborns_max: int = Field(default=4, ge=1, description="How many newborns may stay in their mother's bed.")
    milestones_file: Path = Field(
        default=Path(__file__).parent / "data" / "milestones.csv", description="Steps on the way home, ten at most."
    )
    delay_reasons_file: Path = Field(
        default=Path(__file__).parent / "data" / "delay_reasons.csv", description="Why such a step may be late."
    )
    plan_seconds: float = Field(default=5.0, gt=0, description="How often the plan for all who wait is made anew.")
    auto_assign: bool = Field(
        default=True, description="Give beds at once when one fits; otherwise all but emergencies wait for the desk."
    )
    quota_release_hour: int = Field(
        default=14, ge=0, le=24, description="From this hour on beds kept for partners are open to all; 24: never."
    )
    history_days: int = Field(default=180, ge=7, description="How far back stays are looked at to expect discharges.")
    link_days: int = Field(default=14, ge=1, description="How long a patient's link to the own place works.")

    @property
    def zone(self) -> ZoneInfo:
        """Return the hospital's time zone."""
        return ZoneInfo(self.hospital_zone)

    @property
    def refusal(self) -> timedelta:
        """Return how long a ward may refuse."""
        return timedelta(minutes=self.refusal_minutes)

    @property
    def travel_grace_max(self) -> timedelta:
        """Return by how much a long way lengthens a hold at most."""
        return timedelta(minutes=self.travel_grace_minutes_max)

    @property
    def hold(self) -> timedelta:
        """Return how long a bed is held."""
        return timedelta(minutes=self.hold_minutes)
