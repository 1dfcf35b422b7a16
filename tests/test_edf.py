"Distillation from end to end, and how it fails"
import os,shutil,signal,subprocess,sys,time
import pytest, torch
from edf_nrr.basics import changed
from edf_nrr.core import DistillError, Distilled, Normalize
from edf_nrr.datasets import digits
from edf_nrr.augment import DSA
from edf_nrr.training import Recipe, evaluate, random_real, tune_lr
from edf_nrr.trajectory import record_experts
from edf_nrr.edf import EDFConfig, VARIANTS, distill

UPRIGHT = DSA('color_crop_cutout_scale_rotate')
CFG = EDFConfig(ipc=1, iterations=40, syn_steps=5, expert_epochs=1, lr_img=30, lr_y=1, lr_lr=1e-3, lr_init=.05, initial_max_start_epoch=None, expand_until=None, max_start_epoch=3,
                batch_syn=100, loss_threshold=2., cam_interval=7, save_every=3, augment=UPRIGHT)

needs_compiler = pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs a C++ compiler')

@pytest.fixture(scope='module')
def data(): return digits(device='cpu')

@pytest.fixture(scope='module')
def experts(data, tmp_path_factory):
    return record_experts(data, tmp_path_factory.mktemp('experts'), n=2, epochs=5, arch='convnet_d1_w16', lr=.05, batch_size=64, augment=UPRIGHT, show=False)

RUN = '''
import sys

cfg = EDFConfig(ipc=1, iterations=40, syn_steps=5, expert_epochs=1, lr_img=30, lr_y=1, lr_lr=1e-3, lr_init=.05, initial_max_start_epoch=None, expand_until=None, max_start_epoch=3,
                batch_syn=100, loss_threshold=2., cam_interval=7, save_every=3, augment=DSA('color_crop_cutout_scale_rotate'))
distill(digits(device='cpu'), Experts(sys.argv[1]), cfg, path=sys.argv[2], show=False)
'''

def test_sigkill_resumes_with_the_same_bits(data, experts, tmp_path):
    whole = distill(data, experts, CFG, show=False)
    p = subprocess.Popen([sys.executable, '-c', RUN, str(experts.path), str(tmp_path)], env=dict(os.environ, OMP_NUM_THREADS=str(torch.get_num_threads())))
    end = time.time()+120
    while not (tmp_path/'distilled.safetensors').exists() and p.poll() is None and time.time()<end: time.sleep(.002)
    p.send_signal(signal.SIGKILL)
    assert p.wait()==-signal.SIGKILL, 'it finished before it could be killed'
    assert Distilled.load(tmp_path/'distilled.safetensors').provenance['iteration']<40
    again = distill(data, experts, CFG, path=tmp_path, show=False)
    for o in ('images', 'logits'): assert torch.equal(getattr(again, o), getattr(whole, o))
    assert again.lr==whole.lr and torch.equal(again.history['loss'], whole.history['loss'])

@pytest.mark.parametrize('method', VARIANTS)
@pytest.mark.parametrize('gradient', ['adjoint', 'unrolled'])
def test_every_method_runs_and_is_fixed_by_its_seed(data, experts, method, gradient):
    cfg = changed(CFG, iterations=2, gradient=gradient, **VARIANTS[method])
    a,b,c = (distill(data, experts, cfg, seed=s, show=False) for s in (0, 0, 1))
    assert a.provenance['method']==method and len(a)==10
    assert torch.equal(a.images, b.images) and not torch.equal(a.images, c.images)
    assert (a.logits is None)==(method=='mtt')

@pytest.mark.parametrize('gradient', ['adjoint', pytest.param('compiled', marks=needs_compiler)])
def test_every_gradient_gives_the_unrolled_set(data, experts, gradient):
    a,b = (distill(data, experts, CFG, iterations=5, gradient=g, show=False) for g in (gradient, 'unrolled'))
    assert (a.images-b.images).norm() <= 1e-3*(b.images-b.images.mean()).norm()

@needs_compiler
def test_a_compiled_run_is_fixed_by_its_seed_and_resumes(data, experts, tmp_path):
    cfg = changed(CFG, iterations=4, save_every=2, gradient='compiled', batch_syn=7) # the last batch of a pass is smaller
    whole = distill(data, experts, cfg, show=False)
    distill(data, experts, changed(cfg, iterations=2), path=tmp_path, show=False)
    assert torch.equal(distill(data, experts, cfg, path=tmp_path, show=False).images, whole.images)

def test_what_cannot_be_compiled_is_said_before_the_first_iteration(data, experts):
    import torch._inductor.config as inductor
    with inductor.patch({'cpp.cxx': ('/no/such/compiler',), 'force_disable_caches': True}), pytest.raises(RuntimeError, match="gradient='adjoint'"):
        distill(data, experts, CFG, gradient='compiled', show=False)
    with pytest.raises(ValueError, match='leave it out'): changed(CFG, gradient='compiled', graphs=2)

def test_kept_graphs_change_memory_alone(data, experts, tmp_path, monkeypatch):
    "All, some and none of the graphs give one set to rounding; what was chosen stands in the set, and a resumed run keeps to it on a smaller machine"
    cfg = changed(CFG, iterations=4, save_every=2)
    some = {k: distill(data, experts, cfg, graphs=k, show=False) for k in (None, 0, 3, 99)}
    assert [o.provenance['graphs'] for o in some.values()]==[5, 0, 3, 5]
    ref = some[0].images
    for o in some.values(): assert (o.images-ref).norm() <= 1e-3*(ref-ref.mean()).norm()
    distill(data, experts, changed(cfg, iterations=2), path=tmp_path, show=False)
    monkeypatch.setattr('edf_nrr.edf.total_memory', lambda device: 0)
    assert distill(data, experts, cfg, show=False).provenance['graphs']==0
    again = distill(data, experts, cfg, path=tmp_path, show=False)
    assert again.provenance['graphs']==5 and torch.equal(again.images, some[None].images)
    with pytest.raises(ValueError, match='0 or more'): changed(cfg, graphs=-1)

def test_cam_model_of_another_class_order_or_input_space(data, experts):
    "The first expert with its outputs turned round and told so, asked in its own normalisation: the same maps, the same set"
    cfg,net = changed(CFG, iterations=3, beta=1., cam_interval=1),experts.model(0)
    net.classifier.weight.data,net.classifier.bias.data,net.classes = net.classifier.weight.data.flip(0),net.classifier.bias.data.flip(0),net.classes[::-1]
    ref = distill(data, experts, cfg, show=False)
    assert torch.equal(distill(data, experts, cfg, cam_model=net, show=False).images, ref.images)
    class Pixels(torch.nn.Module):
        "The same network on plain pixels"
        def __init__(self): super().__init__(); self.net,self.classes,self.space = net,net.classes,Normalize([0.], [1.])
        def forward(self, p): return self.net(data.norm.encode(p))
    assert torch.allclose(distill(data, experts, cfg, cam_model=Pixels(), show=False).images, ref.images, atol=1e-4)
    net.classes = ['tench', *net.classes[1:]]
    with pytest.raises(ValueError, match="no output for \\['9'\\]"): distill(data, experts, cfg, cam_model=net, show=False)

def test_distilled_beats_random_real(data, experts):
    "The promise: ten images that teach more than ten real ones under the same labels and a tuned learning rate"
    recipe = Recipe(epochs=150, augment=UPRIGHT)
    syn = distill(data, experts, CFG, iterations=80, show=False)
    rnd = tune_lr(random_real(data, 1, 0, [experts.model(i) for i in range(2)]), data, experts.arch, (.01, .03, .1), recipe)
    a,b = (evaluate(s, data, experts.arch, 3, recipe) for s in (syn, rnd))
    diff,half = a.minus(b)
    assert diff>half, f'{a} against {b}'

def test_trouble_leaves_the_last_good_state(data, experts, tmp_path):
    with pytest.raises(DistillError, match='lower lr_img') as e: distill(data, experts, CFG, lr_img=1e6, path=tmp_path, show=False)
    assert e.value.last_good.images.isfinite().all() and e.value.last_good.images.abs().max()<=CFG.max_abs

def test_every_iteration_skipped(data, experts):
    with pytest.raises(DistillError, match='raise loss_threshold'): distill(data, experts, CFG, loss_threshold=1e-6, iterations=150, show=False)

@pytest.mark.parametrize('changes,match', [(dict(ipc=0), 'ipc must be positive'), (dict(max_start_epoch=9), 'record with keep'), (dict(lr_image=1), "did you mean 'lr_img'"),
    (dict(arch='convnet_d3'), 'convnet_d3'), (dict(zca=True), 'zca=True'), (dict(beta=-1.), 'beta must be positive'), (dict(cam_layer='layer4'), "no layer 'layer4'"),
    (dict(ipc=200), 'fewer than ipc=200'), (dict(initial_max_start_epoch=2), 'expand_until')])
def test_bad_settings_stop_before_the_first_iteration(data, experts, tmp_path, changes, match, monkeypatch):
    import edf_nrr.edf as m
    def boom(*a, **k): raise AssertionError('work was done')
    monkeypatch.setattr(m, '_matching_gradient', boom)
    with pytest.raises(ValueError, match=match): distill(data, experts, CFG, path=tmp_path/'r', show=False, **changes)

def test_evaluation_schedule(data, experts):
    syn = distill(data, experts, CFG, iterations=4, eval_every=2, eval_recipe=Recipe(epochs=2), show=False)
    assert syn.history['accuracy'].isnan().tolist()==[True, False, True, False]
