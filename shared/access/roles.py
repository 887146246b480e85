"""The thirteen roles a staff account can have. What each may do is in `shared.access.policy`, nowhere else."""

from enum import StrEnum


class Role(StrEnum):
    """A duty at the hospital; one account may have several."""

    WARD_NURSE = "ward_nurse"
    BED_MANAGER = "bed_manager"
    SERVICE_CENTRE_CLERK = "service_centre_clerk"
    BILLING_CLERK = "billing_clerk"
    BILLING_SUPERVISOR = "billing_supervisor"
    DOCTOR = "doctor"
    DAY_SURGERY_COORDINATOR = "day_surgery_coordinator"
    FOLLOW_UP_NURSE = "follow_up_nurse"
    PRIMARY_CARE_WORKER = "primary_care_worker"
    OPS = "ops"
    PRIVACY_OFFICER = "privacy_officer"
    ADMIN = "admin"
    IMPORTER = "importer"


TITLES: dict[Role, tuple[str, str]] = {
    Role.WARD_NURSE: ("ward nurse", "病区护士"),
    Role.BED_MANAGER: ("bed manager", "床位调配员"),
    Role.SERVICE_CENTRE_CLERK: ("service-centre clerk", "入出院服务中心"),
    Role.BILLING_CLERK: ("billing clerk", "收费员"),
    Role.BILLING_SUPERVISOR: ("billing supervisor", "收费主管"),
    Role.DOCTOR: ("doctor", "医生"),
    Role.DAY_SURGERY_COORDINATOR: ("day-surgery coordinator", "日间手术协调员"),
    Role.FOLLOW_UP_NURSE: ("follow-up nurse", "随访护士"),
    Role.PRIMARY_CARE_WORKER: ("primary-care worker", "基层医务人员"),
    Role.OPS: ("operations", "信息运维"),
    Role.PRIVACY_OFFICER: ("privacy officer", "隐私保护专员"),
    Role.ADMIN: ("administrator", "系统管理员"),
    Role.IMPORTER: ("importer of recorded facts", "数据导入"),
}
"""What each role is called, in English and Chinese."""
