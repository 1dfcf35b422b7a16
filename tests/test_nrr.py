"Refinement, and how it fails"
import pytest, torch
from torch import nn
from edf_nrr.basics import changed
from edf_nrr.core import DistillError, Distilled, Normalize, ZCA
from edf_nrr.models import create_model
from edf_nrr.augment import DSA, Views
from edf_nrr.cam import cam
from edf_nrr.nrr import MASKS, NRRConfig, mixed_groups, nrr_mask, refine

CFG = NRRConfig(iterations=6, save_every=2, batch_size=7)
NAMES = ['a', 'b', 'c', 'd']

def network(arch='convnet_bn_d2_w8', channels=3):
    net = create_model(arch, 4, 16, channels)
    for _ in range(3): net(torch.randn(32, channels, 16, 16, generator=torch.Generator().manual_seed(0)))
    net.classes = NAMES
    return net.eval()

def hooks(net): return sum(len(m._forward_hooks)+len(m._forward_pre_hooks) for m in net.modules())

@pytest.fixture(scope='module')
def teacher(): return network()

@pytest.fixture(scope='module')
def start():
    norm = Normalize([.4, .5, .6], [.2, .25, .3])
    p = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    p[:,:,:2] = 0; p[:,:,-2:] = 1
    return Distilled(norm.encode(p), torch.arange(4).repeat_interleave(3), NAMES, norm, provenance=dict(method='test'))

@pytest.mark.parametrize('mask', MASKS)
@pytest.mark.parametrize('optimiser', ['adam', 'sgd'])
@pytest.mark.parametrize('augment', [None, DSA(), Views(0, 16, scale=(.5,1))], ids=['plain', 'dsa', 'views'])
def test_frozen_pixels_keep_every_bit_and_values_stay_valid(start, teacher, mask, optimiser, augment):
    out = refine(start, teacher, CFG, mask=mask, optimiser=optimiser, lr=50. if optimiser=='sgd' else 5., augment=augment, show=False)
    m = nrr_mask(cam(teacher, start.images, start.labels), .5, mask).expand_as(start.images)
    assert torch.equal(out.images[m==0], start.images[m==0]) and not torch.equal(out.images, start.images)
    lo,hi = start.norm.encode(torch.zeros(1, 3, 1, 1)),start.norm.encode(torch.ones(1, 3, 1, 1))
    assert (out.images>=lo).all() and (out.images<=hi).all()
    assert torch.equal(out.labels, start.labels) and out.provenance['method']=='test+nrr'

def test_the_mask_scales_the_step_of_adam(start, teacher):
    "Adam's first step is lr times the sign of the gradient, so a mask on the gradient would be lost; on the step it is the distance"
    mid = Distilled(start.images*.1, start.labels, NAMES, start.norm)
    out = refine(mid, teacher, iterations=1, lr=.01, alpha_bn=1., batch_size=12, show=False)
    want = .01*nrr_mask(cam(teacher, mid.images, mid.labels), .5)
    off = ((out.images-mid.images).abs()-want).abs()
    assert want.max()>want[want>0].min()*2 and off.quantile(.99)<1e-4

def test_seed_fixes_every_bit(start, teacher):
    cfg = changed(CFG, augment=DSA())
    a,b,c = (refine(start, teacher, cfg, seed=s, show=False).images for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)

def test_the_set_and_the_teacher_are_left_alone(start):
    net = network().train()
    before,images = {k: v.clone() for k,v in net.state_dict().items()},start.images.clone()
    refine(start, net, CFG, show=False)
    assert net.training and hooks(net)==0 and all(p.grad is None for p in net.parameters())
    assert torch.equal(images, start.images) and all(torch.equal(v, before[k]) for k,v in net.state_dict().items())

@pytest.mark.parametrize('stop', [1, 2, 5, 9])
def test_an_exception_leaves_no_hooks_and_a_run_that_goes_on(start, teacher, tmp_path, stop):
    n = []
    def hook(*_):
        n.append(1)
        if len(n)>stop: raise RuntimeError('pulled the plug')
    h = teacher.classifier.register_forward_hook(hook)
    with pytest.raises(RuntimeError, match='plug'): refine(start, teacher, CFG, path=tmp_path, show=False)
    h.remove()
    assert hooks(teacher)==0 and not teacher.training
    again,whole = refine(start, teacher, CFG, path=tmp_path, show=False),refine(start, teacher, CFG, show=False)
    assert torch.equal(again.images, whole.images) and torch.equal(again.history['ce'], whole.history['ce'])

def test_a_path_holds_one_run(start, teacher, tmp_path):
    refine(start, teacher, CFG, path=tmp_path, show=False)
    with pytest.raises(ValueError, match='another configuration'): refine(start, teacher, CFG, path=tmp_path, eps=.4, show=False)
    other = Distilled(start.images.flip(3), start.labels, NAMES, start.norm, provenance=start.provenance)
    with pytest.raises(ValueError, match='images differ'): refine(other, teacher, CFG, path=tmp_path, show=False)

def test_no_batchnorm(start):
    net = network('convnet_d2_w8')
    with pytest.raises(ValueError, match='alpha_bn=0'): refine(start, net, CFG, show=False)
    out = refine(start, net, CFG, alpha_bn=0, show=False)
    assert not torch.equal(out.images, start.images)

def test_batchnorm_without_statistics(start):
    net = network()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean = m.running_var = None
    with pytest.raises(ValueError, match='running statistics'): refine(start, net, CFG, show=False)

def test_classes_by_name(start, teacher):
    class Reordered(nn.Module):
        classes = ['x', *NAMES[::-1]]
        def __init__(self): super().__init__(); self.net = teacher
        def forward(self, x):
            z = self.net(x).flip(1)
            return torch.cat([z.new_full((len(z), 1), -60.), z], 1)
    a,b = refine(start, Reordered(), CFG, show=False),refine(start, teacher, CFG, show=False)
    assert (a.images-b.images).abs().max()<1e-3
    net = network(); net.classes = ['a', 'b', 'c', 'e']
    with pytest.raises(ValueError, match="no output for \\['d'\\]"): refine(start, net, CFG, show=False)
    del net.classes
    with pytest.raises(ValueError, match='.classes'): refine(start, net, CFG, show=False)

def test_not_finite_is_an_error(start):
    net = network()
    net.features[0].weight.data[0] = float('inf')
    with pytest.raises(ValueError, match='finite'): refine(start, net, CFG, show=False)

def test_not_finite_ends_at_that_step(start, tmp_path):
    "Not at the next checkpoint, and nothing of it is kept or logged"
    net,seen = network(),[]
    def hook(module, args, out):
        if out.requires_grad: seen.append(1)
        return out*float('nan') if len(seen)==5 else out
    net.classifier.register_forward_hook(hook)
    with pytest.raises(DistillError, match='finite at iteration 3') as e: refine(start, net, CFG, path=tmp_path, iterations=20, save_every=20, show=False)
    assert e.value.last_good.images.isfinite().all() and not torch.equal(e.value.last_good.images, start.images)
    assert len(seen)==5 and 'nan' not in ''.join(o.read_text() for o in tmp_path.glob('*.csv'))

def test_zca_is_refused(teacher):
    norm = ZCA(torch.zeros(768), torch.eye(768), torch.ones(768))
    syn = Distilled(torch.rand(4, 3, 16, 16), torch.arange(4), NAMES, norm)
    with pytest.raises(ValueError, match='zca'): refine(syn, teacher, CFG, show=False)

@pytest.mark.parametrize('change,match', [(dict(eps=1.5), 'eps'), (dict(mask='x'), 'soft'), (dict(optimiser='lbfgs'), 'adam'), (dict(lr=0), 'lr'),
                                          (dict(alpha_bn=-1), 'alpha_bn'), (dict(batch_size=1), 'batch_size=1'), (dict(iteration=3), "'iterations'"),
                                          (dict(cam_method='x'), 'gradcam'), (dict(save_every=0), 'save_every')])
def test_bad_settings(start, teacher, change, match):
    with pytest.raises(ValueError, match=match): refine(start, teacher, CFG, show=False, **change)

def test_saves_and_loads(start, teacher, tmp_path):
    a = refine(start, teacher, CFG, augment=Views(0, 16), show=False)
    a.save(tmp_path/'a.safetensors')
    b = Distilled.load(tmp_path/'a.safetensors')
    assert torch.equal(a.images, b.images) and b.provenance['config']['eps']==.5 and b.provenance['start']['method']=='test'

@pytest.mark.parametrize('n,size', [(1, 5), (12, 4), (13, 4), (40, 7)])
def test_groups_mix_classes(n, size):
    y = torch.arange(n)*4//n
    groups = mixed_groups(y, size)
    assert torch.cat(groups).sort().values.tolist()==list(range(n)) and max(map(len, groups))<=size
    assert max(map(len, groups))-min(map(len, groups))<=1
    for g in groups: assert len(y[g].unique())>=min(4, len(g))-1
