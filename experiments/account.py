"""Whether there is a W&B account that works."""

import urllib.request
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError

SECONDS_TO_ANSWER = 5
NO_ACCOUNT = "no account is set up (`wandb login`)"


def why_offline(settings: Any) -> str | None:
    """Why W&B cannot be used, or none if it can; asks nothing of the user.

    Args:
        settings: What W&B's variables and files say, ``wandb.setup().settings``.
    """
    import wandb
    from wandb.sdk.lib import wbauth

    if settings.mode in {"offline", "dryrun"}:
        return f"WANDB_MODE is {settings.mode}"
    host = settings.base_url
    try:
        account = wbauth.authenticate_session(host=host, source="ser-aae", prompt=False, update_session=False)
        if account is None:
            return NO_ACCOUNT
        # W&B itself would try for long. Any answer is one, also that there is no such page.
        with suppress(HTTPError):
            urllib.request.urlopen(host, timeout=SECONDS_TO_ANSWER).close()
        account.verify()
    except wandb.Error as error:
        return f"the account does not work ({error})"
    except OSError as error:
        return f"{host} cannot be reached ({error})"
    return None
