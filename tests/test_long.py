"The long measurements in bench/ can be killed at any time and give the same bits"
import importlib.util,shutil,subprocess,sys,time
from pathlib import Path
import pytest, torch
from edf_nrr.basics import load_tensors, read_json
from edf_nrr.datasets import cluttered_digits
from test_data import write_parquet

bench = Path(__file__).resolve().parent.parent/'bench'

@pytest.fixture(scope='module')
def hub(tmp_path_factory):
    path,o = tmp_path_factory.mktemp('cifar10'),cluttered_digits(1000, 500, size=16, object_fraction=.9, device='cpu')
    write_parquet(path/'train-0.parquet', o.train, o.classes)
    write_parquet(path/'test-0.parquet', o.test, o.classes)
    return path

@pytest.fixture(autouse=True)
def threads():
    n = torch.get_num_threads()
    yield
    torch.set_num_threads(n)

def command(name):
    "The `main` of a script"
    spec = importlib.util.spec_from_file_location(name, bench/f'{name}.py')
    mod = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mod)
    return mod.main

def killed_at(name, hub, runs, made, only):
    "Start a script, and kill it when the file `made` appears"
    p,t0 = subprocess.Popen([sys.executable, bench/f'{name}.py', hub, '--runs', runs, '--tiny', '--only', only]),time.time()
    while not (runs/made).exists():
        assert p.poll() is None and time.time()-t0<300, f'ended before there was {made}'
        time.sleep(.005)
    p.kill()
    p.wait()

def same(a, b):
    "Do two folders hold the same tensors?"
    files = {f.relative_to(a) for f in a.rglob('*.safetensors')}
    assert files and files=={f.relative_to(b) for f in b.rglob('*.safetensors')}
    for f in files:
        x,y = load_tensors(a/f)[0],load_tensors(b/f)[0]
        assert x.keys()==y.keys()
        for k in x: assert torch.equal(x[k], y[k]) or k=='history.accuracy', f'{f}: {k} differs'

def accuracies(runs): return [r['accuracy'] for r in read_json(runs/'results.json')['rows']]

def test_published(hub, tmp_path):
    "Killed, or taken up elsewhere from the copies, it gives what one go gives"
    go,only = command('cifar10_published'),'mtt,datm,edf,students'
    one,two,three = (tmp_path/o for o in ('one', 'two', 'three'))
    go(hub, runs=one, tiny=True, only=only)
    killed_at('cifar10_published', hub, two, 'mtt/sets/set_00004.safetensors', only)
    go(hub, runs=two, tiny=True, only='report', export_state=True)
    shutil.copytree(tmp_path/'two_state', tmp_path/'three_state')
    go(hub, runs=two, tiny=True, only=only)
    go(hub, runs=three, tiny=True, only='mtt')
    same(one, two)
    same(one/'mtt', three/'mtt')
    assert accuracies(one)==accuracies(two) and len(accuracies(one))==10

def test_resnet(hub, tmp_path, capsys):
    go,(one,two) = command('resnet_cifar10'),(tmp_path/o for o in ('one', 'two'))
    go(hub, runs=one, tiny=True, only='teacher,decide,check')
    assert capsys.readouterr().out.count('students are the same: True')==2
    killed_at('resnet_cifar10', hub, two, 'teacher_state.safetensors', 'teacher')
    go(hub, runs=two, tiny=True, only='teacher')
    a,b = (load_tensors(o/'teacher.safetensors')[0] for o in (one, two))
    assert len(accuracies(one))==4 and all(torch.equal(a[k], b[k]) for k in a)
