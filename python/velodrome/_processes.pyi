from typing import Any

class Processes:
    # As asyncio's own, whose keywords differ from version to version.
    connect_read_pipe: Any
    connect_write_pipe: Any
    subprocess_exec: Any
    subprocess_shell: Any
