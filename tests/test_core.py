"Files, runs and distilled sets: faults"
import json,os,warnings
import pytest, torch
from edf_nrr.basics import clock, deterministic, load_tensors, made_with, mean_ci, rng
from edf_nrr.basics import save_tensors, warn_made_with, write_json
from edf_nrr.run import Run
from edf_nrr.core import Distilled, Normalize, ZCA, same_space
from edf_nrr.data import fit_normalize, fit_zca
from edf_nrr.datasets import digits

def small(**kw):
    o = dict(images=torch.randn(6, 3, 4, 4, generator=rng(0)), labels=torch.arange(6)//2, classes=list('abc'), norm=Normalize([.5]*3, [.2]*3)) | kw
    return Distilled(**o)

@pytest.mark.parametrize('kw,match', [(dict(images=torch.zeros(6, 3, 4)), r'\(N,C,H,W\)'), (dict(images=torch.zeros(6, 3, 4, 4, dtype=torch.uint8)), 'float'), (dict(labels=torch.zeros(5).long()), r'shape \(6,\)'),
    (dict(labels=torch.arange(6)), r'0\.\.2'), (dict(logits=torch.zeros(6, 2)), r'\(6,3\)'), (dict(lr=0.), 'positive'), (dict(lr=float('nan')), 'positive')])
def test_distilled_refuses(kw, match):
    with pytest.raises(ValueError, match=match): small(**kw)

@pytest.mark.parametrize('norm', [Normalize([.5]*3, [.2]*3), ZCA(torch.full((48,), .5), torch.eye(48), torch.linspace(0, 1, 48))], ids=['normalize', 'zca'])
def test_distilled_roundtrip(norm, tmp_path):
    a = small(norm=norm, logits=torch.randn(6, 3, generator=rng(1)), lr=.03, history=dict(loss=torch.ones(4)), provenance=dict(config=dict(alpha=.25, beta=None)))
    a.save(tmp_path/'a.safetensors')
    b = Distilled.load(tmp_path/'a.safetensors')
    assert torch.equal(a.images, b.images) and torch.equal(a.pixels(), b.pixels()) and b.provenance==a.provenance and b.lr==.03
    assert not list(tmp_path.glob('.*'))

def test_half_a_file(tmp_path):
    f = tmp_path/'a.safetensors'
    small().save(f)
    for n in (0, 4, 100, f.stat().st_size-1):
        f.write_bytes(f.read_bytes()[:n])
        with pytest.raises(ValueError, match='damaged'): Distilled.load(f)

def test_a_file_of_another_kind(tmp_path):
    save_tensors(tmp_path/'w.safetensors', dict(w=torch.zeros(2)), {})
    with pytest.raises(ValueError, match='not a distilled set'): Distilled.load(tmp_path/'w.safetensors')
    from safetensors.torch import save_file
    save_file(dict(w=torch.zeros(2)), tmp_path/'x.safetensors')
    with pytest.raises(ValueError, match='not written by edf_nrr'): load_tensors(tmp_path/'x.safetensors')
    with pytest.raises(FileNotFoundError): load_tensors(tmp_path/'nothing')

def test_a_pickle_is_not_run(tmp_path):
    import pickle
    class Bomb:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'ran'),)
    (tmp_path/'p.safetensors').write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match='damaged'): Distilled.load(tmp_path/'p.safetensors')
    assert not (tmp_path/'ran').exists()

def test_atomic_write_keeps_the_old_file(tmp_path, monkeypatch):
    f = tmp_path/'a.json'
    write_json(f, dict(a=1))
    def no_room(*a): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'replace', no_room)
    with pytest.raises(OSError, match='No space'): write_json(f, dict(a=2))
    assert json.loads(f.read_text())==dict(a=1) and os.listdir(tmp_path)==['a.json']

def test_run_names_what_differs(tmp_path):
    with Run(tmp_path, dict(a=1, b=2)) as run: run.save({}, {})
    with pytest.raises(ValueError, match='b, c differ'): Run(tmp_path, dict(a=1, b=3, c=4)).__enter__()

def test_mean_ci_needs_values():
    with pytest.raises(ValueError, match='got none'): mean_ci([])

# ---- what the same bits need ----
def test_threads_are_told_apart():
    n,saved = torch.get_num_threads(),made_with()
    try:
        torch.set_num_threads(n+1)
        with pytest.warns(UserWarning, match=f'threads={n} then, {n+1} now.*set_num_threads'): warn_made_with(saved)
    finally: torch.set_num_threads(n)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warn_made_with(json.loads(json.dumps(saved)))
        warn_made_with({})

def test_deterministic_ends_as_it_began():
    def state(): return torch.are_deterministic_algorithms_enabled(),torch.backends.cudnn.deterministic,torch.backends.cudnn.benchmark
    before = state()
    with pytest.raises(KeyError):
        with deterministic():
            assert state()==(True, True, False) and os.environ['CUBLAS_WORKSPACE_CONFIG']
            raise KeyError
    assert state()==before

def test_the_clock_waits_for_the_device(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, 'synchronize', waited.append)
    clock(), clock('cuda:1')
    assert waited==['cuda:1']

FITS = pytest.mark.parametrize('fit', [fit_normalize, fit_zca])

@FITS
def test_a_space_from_a_file_and_one_fitted_again_are_equal_value_by_value(fit, tmp_path):
    data = digits(device='cpu')
    a,b = fit(data.train),fit(data.train)
    small(images=torch.zeros(6, 1, 8, 8), norm=a).save(tmp_path/'a.safetensors')
    back = Distilled.load(tmp_path/'a.safetensors').norm
    for o in (b, back):
        assert all(torch.equal(torch.as_tensor(x), torch.as_tensor(y)) for x,y in zip(a.state().values(), o.state().values()))
        assert same_space(a, o, tol=0.)

@FITS
def test_rounding_is_the_same_space_and_other_images_are_not(fit):
    "Sums in another order, as another number of threads takes them, and eigenvectors turned around"
    data = digits(device='cpu')
    a,p = fit(data.train),data.train.raw().float()/255
    others = [fit(data.train, batch_size=n) for n in (7, 100)] + [fit(data.train.select(torch.arange(len(data.train)).flip(0)))]
    if fit is fit_zca: others.append(ZCA(a.mean, -a.vectors, a.values, a.eps))
    for o in others:
        assert same_space(a, o) and same_space(o, a)
        assert torch.allclose(a.encode(p), o.encode(p), atol=1e-4) # what the tolerance means for model input
    n = len(data.train)
    for rows in (torch.arange(1, n), torch.arange(n//2), torch.arange(n-1)): assert not same_space(a, fit(data.train.select(rows)))
    assert not same_space(a, fit(data.resized(6).train))
    if fit is fit_zca: assert not same_space(a, fit(data.train, eps=.09))

def test_thread_count_is_rounding(tmp_path):
    "The same fit in processes of one and of two threads"
    import subprocess,sys
    src = "import sys,torch; torch.set_num_threads(int(sys.argv[1])); from edf_nrr.datasets import cluttered_digits; from edf_nrr.basics import save_tensors; " \
          "z = cluttered_digits(600, 50, size=16, device='cpu').whiten().norm; save_tensors(sys.argv[2], z.state(), {})"
    for n in '12': subprocess.run([sys.executable, '-c', src, n, str(tmp_path/n)], check=True)
    a,b = [ZCA(**{**s, 'eps': s['eps'].item()}) for s in (load_tensors(tmp_path/n)[0] for n in '12')]
    assert same_space(a, b)
