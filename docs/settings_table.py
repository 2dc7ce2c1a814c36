"""Writes docs/settings.md from the settings of every service: `python docs/settings_table.py`."""

import sys
from pathlib import Path
from typing import Final

import msgspec

from gateway.recording.settings import JournalSettings
from gateway.settings import GatewaySettings
from infra.embedded.launcher import LauncherSettings
from infra.embedded.settings import EmbeddedSettings
from infra.migrations.settings import MigrationSettings
from metering.settings import MeteringSettings
from reporting.settings import ReportingSettings
from runtime.logs import LogFileSettings, LogSettings
from runtime.settings import describe

PAGE: Final = Path(__file__).with_name("settings.md")

SECTIONS: Final[tuple[tuple[str, tuple[type[msgspec.Struct], ...]], ...]] = (
    ("Gateway", (GatewaySettings,)),
    ("Journal", (JournalSettings,)),
    ("Metering", (MeteringSettings,)),
    ("Reporting", (ReportingSettings,)),
    ("Migrations", (MigrationSettings,)),
    ("`tollway up` and the embedded servers", (LauncherSettings, EmbeddedSettings)),
    ("Logs", (LogSettings, LogFileSettings)),
)

_HEAD: Final = """# Settings

Read from the environment, by these names. Durations are written `10m`, `1h30m`, `250ms`, or as a
number of seconds. A setting with an unusable value stops the service, which names every such
setting at once. This page is made by `make docs`.
"""


def page() -> str:
    """The page, as it should stand in docs/settings.md."""
    lines = [_HEAD]
    for title, structs in SECTIONS:
        lines += [f"## {title}", "", "| setting | default | what it is |", "|---|---|---|"]
        for struct in structs:
            for row in describe(struct):
                default = f"`{row.default}`" if row.default else ""
                text = row.description.replace("|", "\\|").rstrip(".")
                lines.append(f"| `{row.name}` | {default} | {text} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")
