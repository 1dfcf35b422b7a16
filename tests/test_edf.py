"Distillation from end to end, and how it fails"
import os,shutil,signal,subprocess,sys,time
import pytest, torch
from edf_nrr.basics import changed
from edf_nrr.core import DistillError, Distilled, Normalize
from edf_nrr.datasets import digits
from edf_nrr.augment import DSA
from edf_nrr.training import Recipe, evaluate, random_real, tune_lr
from edf_nrr.trajectory import record_experts
from edf_nrr.matching import matching_loss
from edf_nrr.cpd import cpd
from edf_nrr.dae import DAE
from edf_nrr.edf import EDFConfig, MatchingRun, VARIANTS, distill

NO_FLIP = DSA('color_crop_cutout_scale_rotate')
CFG = EDFConfig(ipc=1, iterations=40, syn_steps=5, expert_epochs=1, lr_img=30, lr_y=1, lr_lr=1e-3, lr_init=.05, initial_max_start_epoch=None, expand_until=None, max_start_epoch=3,
                batch_syn=100, loss_threshold=2., cam_interval=7, save_every=3, augment=NO_FLIP)

needs_compiler = pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs a C++ compiler')

@pytest.fixture(scope='module')
def data(): return digits(device='cpu')

@pytest.fixture(scope='module')
def experts(data, tmp_path_factory):
    return record_experts(data, tmp_path_factory.mktemp('experts'), n=2, epochs=5, arch='convnet_d1_w16', lr=.05, batch_size=64, augment=NO_FLIP, show=False)

RUN = '''
import sys
from edf_nrr.augment import DSA
from edf_nrr.datasets import digits
from edf_nrr.edf import EDFConfig, distill
from edf_nrr.trajectory import Experts

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
    recipe = Recipe(epochs=150, augment=NO_FLIP)
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

@pytest.mark.parametrize('changes,match', [(dict(ipc=0), 'ipc must be a whole number above 0'), (dict(max_start_epoch=9), 'record with keep'), (dict(lr_image=1), "did you mean 'lr_img'"),
    (dict(arch='convnet_d3'), 'convnet_d3'), (dict(zca=True), 'zca=True'), (dict(beta=-1.), 'beta must be a number above 0'), (dict(cam_layer='layer4'), "no layer 'layer4'"),
    (dict(ipc=200), 'fewer than ipc=200'), (dict(initial_max_start_epoch=2), 'expand_until')])
def test_bad_settings_stop_before_the_first_iteration(data, experts, tmp_path, changes, match, monkeypatch):
    import edf_nrr.edf as m
    def boom(*a, **k): raise AssertionError('work was done')
    monkeypatch.setattr(m.MatchingRun, 'gradient', boom)
    with pytest.raises(ValueError, match=match): distill(data, experts, CFG, path=tmp_path/'r', show=False, **changes)

def test_evaluation_schedule(data, experts):
    syn = distill(data, experts, CFG, iterations=4, eval_every=2, eval_recipe=Recipe(epochs=2), show=False)
    assert syn.history['accuracy'].isnan().tolist()==[True, False, True, False]

# ---- parts of one's own

def large_errors(err): return err>=err.mean()
def bright(images, labels, it): return 1+images.abs()+.01*it
def angle(end, start, target, keep=None): return 1-torch.cosine_similarity(end-start, target-start, dim=0)

def test_defaults_given_explicitly_lead_to_the_same_bits(data, experts):
    cfg = changed(CFG, iterations=9, cam_interval=4)
    a = distill(data, experts, cfg, show=False)
    dae = DAE(experts.model(0), cfg.beta, cfg.cam_interval, seed=cfg.seed, classes=data.classes)
    b = distill(data, experts, cfg, keep=cpd(.25), weigh=dae, objective=matching_loss, show=False)
    for o in ('images', 'logits'): assert torch.equal(getattr(a, o), getattr(b, o))
    assert a.lr==b.lr and a.provenance['method']=='edf' and not {'objective', 'keep', 'weigh'} & a.provenance.keys()
    assert b.provenance['method'].endswith('weigh:DAE') and b.provenance.keys()>={'keep', 'weigh'} and 'objective' not in b.provenance
    assert dae.weights is None, 'the run changed the object that it was given'

def test_parts_replace_what_the_settings_say(data, experts):
    "Whatever alpha and beta are: keep wins over one, weigh over the other"
    cfg = changed(CFG, iterations=3)
    a,b = (distill(data, experts, cfg, keep=large_errors, weigh=bright, show=False, **o) for o in ({}, dict(alpha=0., beta=None)))
    assert torch.equal(a.images, b.images) and a.provenance['method']==b.provenance['method']=='datm+keep:large_errors+weigh:bright'
    one = distill(data, experts, cfg, objective=angle, alpha=0., beta=None, show=False)
    assert one.provenance['method']=='datm+objective:angle' and one.history['loss'].max()<=2

def test_weights_multiply_the_gradient_and_see_every_iteration(data, experts):
    seen = []
    def middle(images, labels, it):
        seen.append(it)
        w = torch.zeros(1, 1, *images.shape[2:])
        w[...,2:6,2:6] = 2.
        return w
    a = distill(data, experts, CFG, iterations=3, weigh=middle, show=False)
    start = MatchingRun(data, experts, CFG)
    start.start()
    moved = (a.images-start.state['images']).abs().sum((0, 1))
    assert seen==[0, 1, 2] and moved[2:6,2:6].min()>0 and moved.sum()==moved[2:6,2:6].sum()

def test_keep_decides_which_parameters_are_matched(data, experts):
    "All errors but the last ten dropped: what is left is the relative distance of these ten"
    only,seen = torch.arange(experts.n_params)>=experts.n_params-10,[]
    def spy(end, start, target, keep):
        seen.append([o.detach()[only] for o in (end, start, target)])
        return matching_loss(end, start, target, keep)
    run = MatchingRun(data, experts, CFG, objective=spy, keep=lambda err: only)
    run.start()
    loss = run.gradient()[0]
    end,start,target = seen[0]
    assert torch.allclose(loss, (end-target).square().sum()/(start-target).square().sum())

@pytest.mark.parametrize('part', ['objective', 'keep', 'weigh'])
def test_another_part_is_another_run(data, experts, tmp_path, part):
    "Refused by name; with the same function, made anew, it goes on with the same bits"
    def made(k):
        def objective(end, start, target, keep=None): return k*(end-target).square().sum()/(start-target).square().sum()
        def keep(err): return err>=k*err.mean()
        def weigh(images, labels, it): return k+images.abs()
        return {part: dict(objective=objective, keep=keep, weigh=weigh)[part]}
    cfg = changed(CFG, iterations=4, save_every=2)
    distill(data, experts, changed(cfg, iterations=2), path=tmp_path, show=False, **made(.5))
    for other in (made(.6), {}):
        with pytest.raises(ValueError, match=f'{part} differ'): distill(data, experts, cfg, path=tmp_path, show=False, **other)
    again = distill(data, experts, cfg, path=tmp_path, show=False, **made(.5))
    assert torch.equal(again.images, distill(data, experts, cfg, show=False, **made(.5)).images)

def test_weights_of_an_object_resume(data, experts, tmp_path):
    "Maps that are older than the checkpoint are kept in it, for a DAE given as `weigh`"
    cfg = changed(CFG, iterations=8, save_every=2)
    def dae(interval): return DAE(experts.model(0), 1.5, interval, classes=data.classes)
    whole = distill(data, experts, cfg, weigh=dae(7), show=False)
    distill(data, experts, changed(cfg, iterations=4), path=tmp_path, weigh=dae(7), show=False)
    with pytest.raises(ValueError, match='weigh differ'): distill(data, experts, cfg, path=tmp_path, weigh=dae(3), show=False)
    assert torch.equal(distill(data, experts, cfg, path=tmp_path, weigh=dae(7), show=False).images, whole.images)

def test_weights_that_do_not_fit(data, experts):
    with pytest.raises(ValueError, match='do not broadcast'): distill(data, experts, CFG, weigh=lambda x, y, it: torch.ones(7, 3), show=False)
