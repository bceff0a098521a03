"""The command that is the daemon."""

from typing import Any

from monitor.commands.base import WATCH, ConfigFile, app, explained, run_async


@app.command(rich_help_panel=WATCH)
def run(config: ConfigFile) -> None:
    """Watch the accounts of CONFIG until stopped. TERM and INT end it, HUP loads CONFIG again."""
    from monitor.config import load
    from monitor.log import configure, register_secret
    from monitor.reload import run_until_signalled

    def prepared() -> Any:
        settings = load(config)
        for secret in settings.secrets():
            register_secret(secret)
        configure(settings.log.level, settings.log.format)
        return settings

    with explained():
        settings = prepared()
    with explained(settings.web.listen):
        run_async(run_until_signalled(settings, prepared))
