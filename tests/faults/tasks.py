"What children do: run a command, watched or not"
import json,os,resource
from pathlib import Path
from faults import world
from faults.commands import COMMANDS
from faults.leaves import leaves
from faults.watch import Watch

def run_command(name, path, settings=None, watch=None, report=None, umask=None, file_bytes=None, patches=()):
    "Run a command in `path`, and write to `report` what it returned and which file operations there were"
    if umask is not None: os.umask(umask)
    for o in patches: PATCHES[o]()
    seen = Watch(Path(path).parent, **watch).seen if watch is not None else []
    if file_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    res = COMMANDS[name](world.WORLD, Path(path), **settings or {})
    if report: write_report(report, res, list(seen))

def write_report(path, res, seen):
    fd = os.open(path, os.O_WRONLY|os.O_CREAT|os.O_TRUNC)
    os.write(fd, json.dumps(dict(result=leaves(res), seen=seen)).encode())
    os.close(fd)

def another_host():
    "As in a container: another host, and the same process id as the one that holds the folder"
    import platform,socket
    socket.gethostname = platform.node = lambda: 'another-host'
    os.getpid = lambda: 1

def full_disk():
    import shutil
    usage = shutil.disk_usage
    shutil.disk_usage = lambda path: usage(path)._replace(free=0)

PATCHES = dict(another_host=another_host, full_disk=full_disk)
