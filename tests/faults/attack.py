"Runs commands in children, disturbs them, and says what is wrong afterwards"
import json,os,shutil,signal,time
from faults.leaves import differences,leftovers,of_folder

class Run:
    "How a command ended undisturbed: `files` and `result` as leaves, the file operations it `saw`, and `seconds`"
    def __init__(self, files, result, seen, seconds): self.files,self.result,self.seen,self.seconds = files,result,seen,seconds

def last_line(r): return (r.lines or ['no message'])[-1][:200]

class Attack:
    "All runs of a command happen in one folder of its own, so that paths in files agree"
    def __init__(self, zygote): self.zygote,self.known = zygote,{}

    def place(self, name, clean=True):
        "The folder that a command shall write. Its parent is looked at, too, and holds nothing else"
        parent = self.zygote.folder/'runs'/name
        if clean: shutil.rmtree(parent, ignore_errors=True)
        parent.mkdir(parents=True, exist_ok=True)
        return parent/'run'

    def start(self, name, settings=None, place=None, **more):
        path = place or self.place(name, clean=False)
        return self.zygote.start('faults.tasks:run_command', name=name, path=str(path), settings=settings, **more)

    def call(self, name, settings=None, seconds=300, **more): return self.zygote.end(self.start(name, settings, **more), seconds)

    def run(self, name, settings=None, place=None, **more):
        "To the end, in what is there: how it ended, and a `Run` or None"
        report = self.zygote.folder/'report.json'
        report.unlink(missing_ok=True)
        r = self.call(name, settings, place=place, report=str(report), **more)
        if r.status!=0 or not report.exists(): return r,None
        told = json.loads(report.read_text())
        parent = (place or self.place(name, clean=False)).parent
        return r,Run(of_folder(parent), told['result'], told['seen'], r.seconds)

    def undisturbed(self, name, settings=None):
        "A run in a clean folder, once a session"
        key = name,repr(settings)
        if key not in self.known:
            self.place(name)
            r,run = self.run(name, settings, watch={})
            assert run, f'{name} fails undisturbed: {r.err[-2000:]}'
            self.known[key] = run
        return self.known[key]

    def problems_after(self, name, settings=None):
        "What is wrong with what a disturbed run left, and with the same command run again to the end. Kind of problem, text"
        good,parent,found = self.undisturbed(name, settings),self.place(name, clean=False).parent,[]
        torn = [k for k,v in of_folder(parent).items() if v.startswith('unreadable') and '/.' not in '/'+k]
        if torn: found.append(('a file that cannot be read', torn[0]))
        r,run = self.run(name, settings)
        if run is None: return [*found, ('the next run fails', last_line(r))]
        if left := leftovers(parent): found.append(('leftovers', left[0]))
        if run.result!=good.result: found.append(('another result', differences(good.result, run.result, 2)))
        visible = {k: v for k,v in run.files.items() if not any(k.startswith(o) for o in left)}
        if visible!=good.files: found.append(('other files', differences(good.files, visible, 2)))
        return found

    def killed_at(self, name, n, how, settings=None):
        "Problems after an end at the n-th file operation"
        self.undisturbed(name, settings)
        self.place(name)
        r = self.call(name, settings, watch=dict(at=n, how=how))
        if r.status!=137: return [('it was not killed', f'status {r.status}: {last_line(r)}')]
        return self.problems_after(name, settings)

    def signalled(self, name, sig, share, settings=None, clean=True):
        "Result of a run that gets a signal after a share of its time"
        seconds = self.undisturbed(name, settings).seconds
        if clean: self.place(name)
        pid = self.start(name, settings)
        time.sleep(share*seconds)
        os.kill(pid, sig)
        return self.zygote.end(pid)

    def killed_after(self, name, shares, settings=None):
        "Problems after SIGKILL at some shares of the time, one run after another"
        for i,share in enumerate(shares): self.signalled(name, signal.SIGKILL, share, settings, clean=i==0)
        return self.problems_after(name, settings)
