"Is a damaged file read as the intact one, or refused by an error that names it? Runs in a child"
import json,os,resource,shutil,signal,traceback
from pathlib import Path
from faults import damage,world
from faults.files import FILES,damaged_file
from faults.leaves import differences,leaves

SECONDS,MEMORY = 10,10**9 # of the processor. One that only waits gets six times as long

class Hang(BaseException): pass

def alarm(*args): raise Hang

def set_clocks(seconds):
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 6*seconds)

def limit_memory():
    "No more than `MEMORY` bytes beside what the process has"
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    most = pages*os.sysconf('SC_PAGE_SIZE')+MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

def own_error():
    "The class of the library's errors about files, `ValueError` where it has none of its own"
    import edf_nrr.basics
    return getattr(edf_nrr.basics, 'BadFile', ValueError)

def place_of(e):
    "The last function of the library that an error passed"
    frames = [o for o in traceback.extract_tb(e.__traceback__) if '/edf_nrr/' in o.filename]
    return f'{Path(frames[-1].filename).stem}.{frames[-1].name}' if frames else '?'

def of_error(e, kind, file):
    "None if an error is the library's own and names the file, else what is wrong with it"
    text = str(e)
    if isinstance(e, own_error()) and file.name in text: return None
    if isinstance(e, ValueError) and any(o in text for o in kind.refusals): return None
    if isinstance(e, ValueError): return f'{type(e).__name__} that {"is not BadFile" if file.name in text else "does not name the file"}'
    return type(e).__name__

def of_load(kind, folder, file, good):
    "None, or the kind of failure and an example"
    set_clocks(SECONDS)
    try: found = leaves(kind.load(world.WORLD, folder))
    except Hang: return f'takes more than {SECONDS} s',''
    except Exception as e:
        what = of_error(e, kind, file)
        return what and (f'{what} in {place_of(e)}', f'{type(e).__name__}: {str(e)[:150]}')
    finally: set_clocks(0)
    if found==good or not kind.sealed and parses(file): return None
    return 'accepted with other data',differences(good, found, 1)[0]

def parses(file):
    try: json.loads(file.read_text())
    except ValueError: return False
    return True

def intact(name, folder):
    "Folder, file and leaves of an intact file of a type"
    kind,folder = FILES[name],Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    (folder/'intact').mkdir(parents=True)
    kind.make(world.WORLD, folder/'intact')
    return kind,damaged_file(kind, folder/'intact')

def damage_names(name, folder, report):
    "Write the intact file, and the names of all ways to damage it"
    kind,file = intact(name, folder)
    Path(report).write_text(json.dumps([k for k,_ in damage.all_damage(kind, file)]))

def judge(name, folder, names, report):
    "Damage a file in some ways, read each, and write a line of JSON a verdict"
    kind,folder = FILES[name],Path(folder)
    file = damaged_file(kind, folder/'intact')
    good = leaves(kind.load(world.WORLD, copied(folder)))
    wanted = dict.fromkeys(names)
    ways = [(k, b) for k,b in damage.all_damage(kind, file) if k in wanted]
    for o in (signal.SIGALRM, signal.SIGPROF): signal.signal(o, alarm)
    limit_memory()
    with open(report, 'w', buffering=1) as f:
        for k,b in ways:
            copy = copied(folder)
            bad = copy/file.relative_to(folder/'intact')
            bad.write_bytes(b)
            f.write(json.dumps([k, of_load(kind, copy, bad, good)])+'\n')

def copied(folder):
    copy = folder/'copy'
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(folder/'intact', copy))
