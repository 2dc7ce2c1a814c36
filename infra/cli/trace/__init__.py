"""`tollway trace`: recorded traffic, read, played through a gateway, accounted for."""

from cyclopts import App

app = App(name="trace", help="Play recorded traffic through the running gateway.")
app.command(
    "infra.cli.trace.command:replay",
    name="replay",
    help="Play Azure LLM trace files through the running gateway against the demo provider.",
    help_epilogue="Example:  tollway trace replay conv.csv code.csv --limit 1000",
)
