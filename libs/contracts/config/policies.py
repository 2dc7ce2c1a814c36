"""A policy: what to look for in requests, and what to do about it."""

from typing import Final, Literal, get_args

import msgspec

Action = Literal["block", "allow_but_warn", "allow_but_redact", "allow"]

ACTIONS: Final[tuple[str, ...]] = get_args(Action)

ENTITIES: Final = frozenset(
    {
        "address",
        "age",
        "all",
        "aws_access_key",
        "aws_secret_key",
        "bank_account_number",
        "bank_routing",
        "ca_health_number",
        "ca_social_insurance_number",
        "credit_debit_cvv",
        "credit_debit_expiry",
        "credit_debit_number",
        "date_time",
        "driver_id",
        "email",
        "in_aadhaar",
        "in_nrega",
        "in_permanent_account_number",
        "in_voter_number",
        "international_bank_account_number",
        "ip_address",
        "license_plate",
        "mac_address",
        "name",
        "passport_number",
        "password",
        "phone",
        "pin",
        "ssn",
        "swift_code",
        "uk_national_health_service_number",
        "uk_national_insurance_number",
        "uk_unique_taxpayer_reference_number",
        "url",
        "us_individual_tax_identification_number",
        "username",
        "vehicle_identification_number",
    }
)
"""What personal data there is to look for, by name."""


class PolicyRule(msgspec.Struct, frozen=True):
    """A regular expression or a description in words, and an action."""

    definition: str
    action: Action


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """`entity_rules` maps an entity's name to an action; None is a configuration never given."""

    id: str
    created_at: int
    updated_at: int
    name: str = ""
    tags: tuple[str, ...] = ()
    entity_rules: dict[str, Action] | None = None
    regex_rules: tuple[PolicyRule, ...] | None = None
    custom_rules: tuple[PolicyRule, ...] | None = None
