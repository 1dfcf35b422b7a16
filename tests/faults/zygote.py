"""A process that has imported everything and made the world, and forks: a child starts in milliseconds, in the state of the last import

The parent speaks JSON, a line a request: `start` a task in a child, `wait` for it. A child is a zombie until it is waited for, so that
its number cannot be another process's when a signal is sent to it.
"""
import importlib,json,os,signal,subprocess,sys,time,traceback
from pathlib import Path

tests = Path(__file__).resolve().parent.parent

def redirect(out):
    "Standard output and error of this process go to `out`.out and `out`.err"
    for fd,name in ((1, 'out'), (2, 'err')):
        f = os.open(f'{out}.{name}', os.O_WRONLY|os.O_CREAT|os.O_TRUNC, 0o644)
        os.dup2(f, fd)
        os.close(f)

def exit_status(e):
    "What a Python process would exit with after `SystemExit`, and what it would print"
    if e.code is None: return 0
    if isinstance(e.code, int): return e.code
    print(e.code, file=sys.stderr)
    return 1

def run(task, args):
    "The exit status of a task, `module:function`, which gets `args` by name"
    module,_,name = task.partition(':')
    try: getattr(importlib.import_module(module), name)(**args)
    except SystemExit as e: return exit_status(e)
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

def child(task, args, out, ready):
    "What a fork does, to its end"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(Path(out).parent)
    redirect(out)
    os.write(ready, b'.')
    status = run(task, args)
    for o in (sys.stdout, sys.stderr): o.flush()
    os._exit(status)

def start(task, args, out):
    "The process id of a child that has begun"
    ours,theirs = os.pipe()
    pid = os.fork()
    if pid==0: child(task, args, out, theirs)
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    return pid

def wait(pid, seconds):
    "Exit status of a child, or minus a signal. None: it has not ended within `seconds`"
    until,pause = time.time()+seconds,1e-3
    while True:
        done,status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        if time.time()>until: return None
        time.sleep(pause)
        pause = min(.02, 1.2*pause)

def serve(folder):
    "Make the world in `folder`, say so, and do what is asked until the input ends"
    import torch
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1) # prints of the library are no answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from faults.world import make_world
    make_world(Path(folder))
    print(json.dumps('ready'), file=answers)
    for line in sys.stdin:
        job = json.loads(line)
        f = dict(start=start, wait=wait)[job.pop('do')]
        print(json.dumps(f(**job)), file=answers)

class Result:
    "How a task ended: `status`, `out`, `err`, `seconds`"
    def __init__(self, status, seconds, out):
        self.status,self.seconds = status,seconds
        self.out,self.err = (Path(f'{out}.{k}').read_text(errors='replace') for k in ('out', 'err'))
    @property
    def lines(self): return self.err.strip().splitlines()

class Zygote:
    "The parent's side: `start` tasks and `end` them, or `call`, which does both"
    def __init__(self, folder):
        self.folder,self.n,self.at = Path(folder),0,{}
        self.folder.mkdir(parents=True, exist_ok=True)
        env = os.environ | dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', MPLBACKEND='agg',
                                PYTHONPATH=os.pathsep.join([str(tests.parent), str(tests)]))
        self.log = open(self.folder/'zygote.log', 'w')
        self.process = subprocess.Popen([sys.executable, '-m', 'faults.zygote', str(self.folder/'world')], text=True, env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if line: return json.loads(line)
        raise RuntimeError('the zygote ended:\n'+(self.folder/'zygote.log').read_text()[-3000:])

    def ask(self, **job):
        self.process.stdin.write(json.dumps(job)+'\n')
        self.process.stdin.flush()
        return self.answer()

    def start(self, task, **args):
        "Begin a task, gives its process id"
        out = self.folder/'out'/str(self.n%1000)
        out.parent.mkdir(exist_ok=True)
        self.n += 1
        pid = self.ask(do='start', task=task, args=args, out=str(out))
        self.at[pid] = time.time(),out
        return pid

    def end(self, pid, seconds=600):
        "How a task ended. One that takes longer than `seconds` is killed, its status is None"
        status = self.ask(do='wait', pid=pid, seconds=seconds)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            self.ask(do='wait', pid=pid, seconds=60)
        began,out = self.at.pop(pid)
        return Result(status, time.time()-began, out)

    def call(self, task, seconds=600, **args): return self.end(self.start(task, **args), seconds)

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.log.close()

if __name__=='__main__': serve(sys.argv[1])
