"Recording experts: what a notebook cell should not carry"
import os,shutil,signal,subprocess,sys,time
import pytest, torch
from edf_nrr.augment import DSA
from edf_nrr.basics import changed, read_json, read_sealed, write_sealed
from edf_nrr.core import ZCA
from edf_nrr.datasets import cluttered_digits, digits
from edf_nrr.trajectory import ExpertConfig, Experts, expert_epoch, expert_forward, fingerprint, record_experts

CFG = ExpertConfig(n=2, epochs=30, arch='convnet_d1_w16', lr=.1, momentum=.5, batch_size=64, augment=DSA('crop_rotate'), seed=5)

RECORD = '''
import sys
from edf_nrr.augment import DSA
from edf_nrr.datasets import digits
from edf_nrr.trajectory import ExpertConfig, record_experts
cfg = ExpertConfig(n=2, epochs=30, arch='convnet_d1_w16', lr=.1, momentum=.5, batch_size=64, augment=DSA('crop_rotate'), seed=5)
record_experts(digits(device='cpu'), sys.argv[1], cfg, show=False)
'''

@pytest.fixture(scope='module')
def data(): return digits(device='cpu')

@pytest.fixture(scope='module')
def whole(data, tmp_path_factory): return record_experts(data, tmp_path_factory.mktemp('whole'), CFG, show=False)

def test_sigkill_resumes_with_the_same_bits(data, whole, tmp_path):
    "Killed twice without a chance to clean up, wherever it happened to be"
    for wanted in (3, 12):
        p = subprocess.Popen([sys.executable, '-c', RECORD, str(tmp_path)], env=dict(os.environ, OMP_NUM_THREADS=str(torch.get_num_threads())))
        end = time.time()+120
        while len(list(tmp_path.rglob('epoch_*.safetensors')))<wanted and p.poll() is None and time.time()<end: time.sleep(.002)
        p.send_signal(signal.SIGKILL)
        assert p.wait()==-signal.SIGKILL, 'it finished before it could be killed'
    assert list(tmp_path.glob('*.part')), 'nothing was under way'
    again = record_experts(data, tmp_path, CFG, show=False)
    assert not list(tmp_path.glob('*.part')) and not list(tmp_path.rglob('*.tmp'))
    for i in range(2):
        for e in CFG.kept: assert torch.equal(again.params(i, e), whole.params(i, e)), f'expert {i}, epoch {e}'

def test_more_experts_are_added(data, whole, tmp_path):
    first = record_experts(data, tmp_path, CFG, n=1, show=False)
    stamp = first.files[0].stat().st_mtime_ns
    both = record_experts(data, tmp_path, CFG, n=2, show=False)
    assert len(both)==2 and both.files[0].stat().st_mtime_ns==stamp
    assert torch.equal(both.params(1), whole.params(1))

def test_another_recipe_is_refused(data, whole):
    with pytest.raises(ValueError, match='config.lr: 0.1 there, 0.2 now'): record_experts(data, whole.path, CFG, lr=.2, show=False)
    with pytest.raises(ValueError, match='norm'): record_experts(cluttered_digits(200, 50, size=16, device='cpu'), whole.path, CFG, show=False)

def test_opening_reads_no_weights(whole, monkeypatch):
    "A store of a hundred experts opens as fast as one of one"
    import edf_nrr.trajectory as t
    def boom(*a, **k): raise AssertionError('a weights file was opened')
    monkeypatch.setattr(t, 'TensorFile', boom)
    monkeypatch.setattr(t, 'load_tensors', boom)
    assert len(Experts(whole.path))==2

def test_nothing_there(tmp_path, whole):
    with pytest.raises(FileNotFoundError, match='record them'): Experts(tmp_path)
    (tmp_path/'experts.json').write_text((whole.path/'experts.json').read_text())
    with pytest.raises(FileNotFoundError, match='goes on where it stopped'): Experts(tmp_path)

def test_divergence_is_named(data, tmp_path):
    with pytest.raises(ValueError, match='lower lr'): record_experts(data, tmp_path, CFG, lr=1e30, epochs=5, show=False)

def test_no_room(data, tmp_path, monkeypatch):
    import edf_nrr.trajectory as t
    monkeypatch.setattr(t.shutil, 'disk_usage', lambda p: type('U', (), dict(free=1000)))
    with pytest.raises(ValueError, match='bfloat16'): record_experts(data, tmp_path/'x', CFG, show=False)
    assert not list((tmp_path/'x').glob('*'))

@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_store_is_as_announced(data, tmp_path, dtype, capsys):
    from edf_nrr.basics import human_bytes
    from edf_nrr.trajectory import store_bytes
    e = record_experts(data, tmp_path, CFG, n=1, epochs=3, keep=1, dtype=dtype)
    need = store_bytes(ExpertConfig(n=1, epochs=3, keep=1, dtype=dtype), e.n_params)
    assert human_bytes(need) in capsys.readouterr().out
    assert 0 <= e.files[0].stat().st_size-need < 1000
    assert e.params(0, 3).dtype==torch.float32 and read_json(tmp_path/'experts.json')['config']['dtype']==dtype

def test_store_without_later_settings(data, whole):
    "A store that was written before a setting existed has its default"
    f = whole.path/'experts.json'
    desc = read_sealed(f)
    write_sealed(f, {**desc, 'config': {k: v for k,v in desc['config'].items() if k not in ('amp', 'compile')}})
    try:
        assert len(record_experts(data, whole.path, CFG, show=False))==2
        with pytest.raises(ValueError, match='config.amp: False there, True now'): record_experts(data, whole.path, CFG, amp=True, show=False)
    finally: write_sealed(f, desc)

def test_kept_memory_changes_no_bit(data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr('edf_nrr.basics.glibc_calls', lambda: (None, None))
    back = record_experts(data, tmp_path, CFG, n=1, show=False)
    for e in CFG.kept: assert torch.equal(back.params(0, e), whole.params(0, e))

FLAT = changed(CFG, n=1, epochs=4, rule='gsam')

def test_passes_in_bfloat16(data, tmp_path):
    "The parameters stay float32, the steps are near those in float32, and the expert learns as much"
    from edf_nrr.trajectory import expert_accuracy
    a,b = (record_experts(data, tmp_path/str(amp), FLAT, amp=amp, show=False) for amp in (False, True))
    moved,off = a.params(0)-a.params(0, 0),b.params(0)-a.params(0)
    assert 0 < off.norm() < .2*moved.norm() and not torch.equal(b.params(0), b.params(0).bfloat16().float())
    assert abs(expert_accuracy(b, data, epochs=[4])[0]-expert_accuracy(a, data, epochs=[4])[0])<.03

@pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs a compiler')
def test_compiled_is_the_same_to_rounding(data, tmp_path):
    a,b = (record_experts(data, tmp_path/str(c), FLAT, epochs=1, compile=c, show=False) for c in (False, True))
    assert 0 < (b.params(0)-a.params(0)).norm() < 1e-3*(a.params(0)-a.params(0, 0)).norm()

# ---- what the same bits need ----
def test_dropout_comes_from_expert_and_epoch(data):
    net,cfg = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(.5), torch.nn.Linear(64, 10)),changed(CFG, augment=None)
    def after(expert, epoch):
        params = [p.detach().clone() for p in net.parameters()]
        expert_epoch(expert_forward(net, cfg), params, [torch.zeros_like(p) for p in params], data, cfg, expert, epoch)
        return params[0]
    state = torch.get_rng_state()
    a = after(0, 1)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(9)
    assert torch.equal(a, after(0, 1)) and not torch.equal(a, after(0, 2))

def test_fingerprint_of_zca_does_not_hang_on_eigenvectors(data):
    "Signs and last bits of eigenvectors and -values differ between machines"
    z = data.whiten().norm
    other = ZCA(z.mean, -z.vectors*(1+1e-6), z.values*(1+1e-6), z.eps)
    assert fingerprint(other)==fingerprint(z)
    for o in (data.whiten(.2).norm, ZCA(z.mean+1e-4, z.vectors, z.values, z.eps), ZCA(z.mean, z.vectors, z.values*1.01, z.eps)): assert fingerprint(o)!=fingerprint(z)
