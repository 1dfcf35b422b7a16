"The queue of GPU measurements: rehearsed on whatever machine there is, killed, and merged into the tables"
import dataclasses,shutil,subprocess,sys,time
from pathlib import Path
import pytest, torch
from edf_nrr.basics import read_json, write_json
from edf_nrr.datasets import cluttered_digits
from edf_nrr.files import parquet
from edf_nrr.augment import DSA
from edf_nrr.matching import adjoint_gradient
from test_data import write_parquet

bench = Path(__file__).resolve().parent.parent/'bench'
sys.path.insert(0, str(bench))
import gpu, gpu_steps as steps, matching as race

def names(minutes, runs, **given): return [o.name for o,_ in gpu.plan(runs, given, minutes)]

def test_plan(tmp_path):
    "Most telling first, within the minutes, nothing without its data, nothing that is done"
    (tmp_path/'steps').mkdir()
    assert names(60, tmp_path)==['smoke', 'matching']
    assert names(60, tmp_path, cifar10='here')==['smoke', 'matching', 'experts', 'cifar_experts', 'cifar_1', 'cifar_10', 'resnets']
    for minutes in (1, 4, 9, 15): assert sum(m for _,m in gpu.plan(tmp_path, dict(cifar10='here', imagenette='there'), minutes))<=minutes
    write_json(gpu.step_file(tmp_path, 'smoke'), dict(done=True))
    write_json(gpu.step_file(tmp_path, 'matching'), dict(rows=[]))
    assert names(60, tmp_path)==['matching']
    write_json(gpu.step_file(tmp_path, 'cifar_experts'), dict(died=1))
    assert not gpu.has(gpu.QUEUE[gpu.NAMES.index('cifar_1')], tmp_path, dict(cifar10='here'), False)
    assert names(.4, tmp_path)==[]

def test_every_step_has_a_function():
    assert all(callable(getattr(steps, o.name)) for o in gpu.QUEUE)
    known = {o.name for o in gpu.QUEUE} | {'cifar10', 'imagenette', 'edf'}
    assert all(n in known for o in gpu.QUEUE for n in o.needs)

def test_units_keep_every_row(tmp_path):
    "A unit that fails leaves its error, rows are on disk at once, a second go does only what is missing, and without time nothing is begun"
    made = []
    def one(): return dict(value=len(made))
    def bad(): raise OSError('no memory')
    def job(seconds=60): return steps.Job('units', tmp_path, time.time()+seconds)
    def stop(): raise KeyboardInterrupt
    def broken(): raise RuntimeError('CUDA error: an illegal memory access')
    with pytest.raises(KeyboardInterrupt): job().units(dict(a=one, b=bad, c=stop))
    assert read_json(tmp_path/'steps/units.json')['rows']==[dict(name='a', value=0), dict(name='b', error='OSError: no memory')]
    made.append(1)
    assert not job(-1).units(dict(a=one, c=one))
    assert job().units(dict(a=one, b=bad, c=one))
    assert [r.get('value') for r in job().kept['rows']]==[0, None, 1]
    with pytest.raises(SystemExit): job().units(dict(d=broken, e=one)) # nothing else can be asked of this process
    assert job().kept['rows'][-1]['name']=='d'

@pytest.fixture(scope='module')
def problem():
    net,p = race.problem('convnet_d2_w8', 8, 1, 3, 6, torch.float64, augment=DSA())
    return net,p,adjoint_gradient(**p)

def test_data_are_decoded_once(tmp_path):
    "The second time from one file, with the same pixels, labels and input space"
    o = cluttered_digits(60, 40, size=16, device='cpu')
    (tmp_path/'in').mkdir()
    for name in ('train', 'test'): write_parquet(tmp_path/'in'/f'{name}-0.parquet', o.split(name), o.classes)
    def job(): return steps.Job('any', tmp_path, time.time(), data=dict(cifar10=tmp_path/'in'))
    ref,first = parquet(tmp_path/'in', device='cpu', stream=False),steps.decoded(job(), 'cifar10')
    shutil.rmtree(tmp_path/'in')
    for d in (first, steps.decoded(job(), 'cifar10')):
        assert d.classes==ref.classes
        for s in ('train', 'test'): assert torch.equal(d.x(s).cpu(), ref.x(s)) and torch.equal(d.y(s).cpu(), ref.y(s))

def test_replayed_steps(problem):
    "From inputs in fixed places, with batches of different sizes, the adjoint's numbers, step after step"
    net,p,ref = problem
    got = adjoint_gradient(**p | dict(forward=steps.ReplayedStep(net)))
    assert race.distance(got, ref)<1e-12
    f = steps.Replayed(lambda a, b: a*b)
    assert [f(torch.full((n,), v), torch.ones(n)).sum().item() for n,v in ((2, 1.), (2, 3.), (3, 1.), (2, 5.))]==[2, 6, 3, 10]

@pytest.mark.parametrize('n', [1, 3])
def test_segments_at_once(problem, n):
    "Equal segments give the mean loss of one and its gradients"
    net,p,ref = problem
    assert race.distance(steps.segments_gradient(net, n, **p), ref)<1e-12

def test_experts_at_once(tmp_path):
    "Gradients of stacked experts are those of each"
    cfg = dataclasses.replace(steps.MTT_EXPERTS, arch='convnet_d1_w8')
    nets = [steps.create_model(cfg.arch, 3, 8, 3, seed=i) for i in range(2)]
    x,y = torch.randn(2, 5, 3, 8, 8),torch.tensor([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    params,f = steps.stacked_experts(cfg, nets)
    got = f(params, x, y)
    for i,net in enumerate(nets):
        ref = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x[i]), y[i]), list(net.parameters()))
        assert all(torch.allclose(a[i], b, atol=1e-6) for a,b in zip(got, ref))

def test_killed_and_taken_up(tmp_path):
    "What was measured before the kill stays, the rest follows"
    file = tmp_path/'steps/matching.json'
    p,t0 = subprocess.Popen([sys.executable, '-W', 'ignore', bench/'gpu.py', '--step', 'matching', '--tiny', '--runs', tmp_path, '--minutes', '5']),time.time()
    while not (file.exists() and len(read_json(file)['rows'])>1):
        assert p.poll() is None and time.time()-t0<300
        time.sleep(.02)
    p.kill()
    p.wait()
    before = read_json(file)['rows']
    subprocess.run([sys.executable, '-W', 'ignore', bench/'gpu.py', '--only', 'matching', '--tiny', '--runs', tmp_path, '--minutes', '5'], check=True)
    after = read_json(tmp_path/'gpu.json')['steps']['matching']
    assert after['done'] and after['rows'][:len(before)]==before and len(after['rows'])>len(before)
    assert not any(isinstance(r['error'], str) for r in after['rows'])

def test_a_step_that_dies(tmp_path, capsys):
    "Its last words are kept, the queue goes on, and after two deaths it is left alone"
    (tmp_path/'steps').mkdir()
    step,args = gpu.Step('nothing', 'Nothing', 1, 1),['--runs', str(tmp_path)]
    gpu.attempt(step, tmp_path, 60, args)
    assert gpu.kept(tmp_path, 'nothing')['died']==1 and "'nothing'" in gpu.kept(tmp_path, 'nothing')['error']
    write_json(gpu.step_file(tmp_path, 'nothing'), dict(died=2))
    t0 = time.time()
    gpu.attempt(step, tmp_path, 60, args)
    assert time.time()-t0<1 and gpu.kept(tmp_path, 'nothing')==dict(died=2)

def test_a_step_that_dies_on_the_way(tmp_path, monkeypatch):
    "It is begun again as long as each process gives something"
    (tmp_path/'steps').mkdir()
    class Process:
        def __init__(self, cmd, **how):
            now = gpu.kept(tmp_path, 'matching')
            rows = now.get('rows', [])+[dict(name=len(now.get('rows', [])))]
            self.code = 0 if len(rows)==3 else 1
            write_json(gpu.step_file(tmp_path, 'matching'), dict(rows=rows, done=self.code==0))
        def wait(self, seconds=None): return self.code
    monkeypatch.setattr(gpu.subprocess, 'Popen', Process)
    gpu.queue(tmp_path, {}, 9, True, [], ['matching'])
    now = gpu.kept(tmp_path, 'matching')
    assert len(now['rows'])==3 and now['done'] and 'died' not in now

def test_rehearsal_and_tables(tmp_path):
    "The other steps, tiny, and their rows in bench/README.md"
    runs,out = tmp_path/'runs',tmp_path/'bench'
    for o in gpu.QUEUE:
        if o.name in ('matching', 'release'): continue
        gpu.work(o.name, runs, 10, True, {})
        assert gpu.kept(runs, o.name)['done'], o.name
    assert not any(r.get('error') or r.get('failed') for r in gpu.kept(runs, 'smoke')['rows']+gpu.kept(runs, 'experts')['rows'])
    assert [(r['method'], r['iteration']) for r in gpu.kept(runs, 'cifar_1')['rows']]==[('random real', 0), ('datm', 2), ('edf', 2), ('datm', 4), ('edf', 4)]
    gpu.collect(runs)
    shutil.copytree(bench, out, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(runs/'gpu.json', out/'results')
    subprocess.run([sys.executable, '-W', 'ignore', out/'report.py'], check=True)
    text = (out/'README.md').read_text()
    decoupled = text.split('## The decoupled protocol')[1].split('\n## ')[0]
    assert '| random real | soft |' in decoupled
    assert text.count('| datm | 4 | soft |')>=4 and 'experts an hour' in text.split('**experts**')[1]
