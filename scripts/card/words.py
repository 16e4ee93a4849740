"""What is said at the end: how the device is found and used, and a code to scan."""

import json
import shutil
import subprocess
import sys

from card.settings import Wishes

PORT = 8765
KEPT = "${EDGE_MCP_TOKEN}"
"""In the place of the token: what is printed may be seen by others, and stays in the terminal."""


def end(wishes: Wishes | None, *before: str, imager: bool = False) -> None:
    """Print it. `wishes`: what the device will be, where that is known. `before`: steps that come first. `imager`: Raspberry Pi
    Imager may have named the device and its user."""
    print("\n".join(f"{number}. {step}" for number, step in enumerate([*before, *steps(wishes, imager)], 1)))
    if wishes and wishes.name:
        device = f"https://{wishes.name}.local:{PORT}"
        print(f"\nIs it there? {device}/health    its certificate is its own, of which a browser warns")
        print(code(f"{device}/health"))
        print(hosts(f"{device}/mcp"))


def steps(wishes: Wishes | None, imager: bool) -> list[str]:
    """What to do with the card, and then on a computer in the same network."""
    wishes = wishes or Wishes(user="USER", ssh_key="unknown")
    todo = [
        "put the card into the Pi and switch it on; the first boot takes some minutes, and needs no internet",
        "edge-mcp discover    on a computer in the same network: shows the device, its name and its address",
    ]
    if wishes.ssh_key or imager:
        user = wishes.user if wishes.ssh_key else "USER"
        todo.append(f"sudo edge-mcp pair    on the device (ssh {user}@ADDRESS): shows six digits")
        todo.append("edge-mcp pair NAME    on the computer: takes them; then edge-mcp call TOOL --on NAME, edge-mcp hosts NAME")
    if wishes.token:
        todo.append("hosts that do not pair show the token of --token-file: Authorization: Bearer TOKEN")
    if not (wishes.ssh_key or wishes.token or imager):
        todo.append(
            "nobody can use it yet: it has no token that you know and no key to log in with. See --token-file and --ssh-key"
        )
    return todo


def code(url: str) -> str:
    """An address as a QR code for the terminal: for a telephone. Empty where nobody sees it, or qrencode is not there."""
    if not sys.stdout.isatty() or (program := shutil.which("qrencode")) is None:
        return ""
    made = subprocess.run([program, "--type=UTF8", "--margin=2", url], capture_output=True, text=True, check=False)
    return made.stdout if made.returncode == 0 else ""


def hosts(url: str) -> str:
    """What to paste into hosts that are not paired."""
    bearer = f"Bearer {KEPT}"
    entry = {"mcpServers": {"edge": {"url": url, "headers": {"Authorization": bearer}}}}
    return f"""What to paste into hosts, with the token in the place of {KEPT}:
  claude mcp add --transport http edge {url} --header "Authorization: {bearer}"
  {json.dumps(entry)}"""
