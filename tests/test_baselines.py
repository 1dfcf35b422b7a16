"The baselines beyond what their notebook shows"
import pytest, torch
from edf_nrr.baselines import SRE2L, datm, farthest, herd, herding, k_center, mtt, rded, sre2l
from edf_nrr.baselines import surest_crops
from edf_nrr.basics import rng
from edf_nrr.data import ImageData, Split
from edf_nrr.datasets import cluttered_digits
from edf_nrr.edf import EDFConfig, VARIANTS, distill
from edf_nrr.models import create_model
from edf_nrr.trajectory import record_experts

@pytest.fixture(scope='module')
def data(): return cluttered_digits(300, 50, size=16, object_fraction=.8, device='cpu')

@pytest.fixture(scope='module')
def teacher(data):
    net = create_model('convnet_bn_d2_w8', 10, 16, data.channels).eval()
    net.classes = list(data.classes)
    return net

def test_rded_tiles_rank_first(data, teacher):
    "Tile 0 of a class's images holds its surest crops, and no image of another class is used"
    syn = rded(data, teacher, 2, tiles=4, pool=20)
    conf = syn.history['confidence'].view(10, 2, 4)
    assert (conf[:,:,:3].amin(1) >= conf[:,:,1:].amax(1)).all()
    assert torch.equal(data.y('train')[syn.history['image']].view(20, 4), syn.labels[:,None].expand(-1, 4))
    assert syn.provenance['method']=='rded' and len(syn.history['image'].unique())==80

def test_rded_keeps_the_surest_crop(data, teacher):
    "Probabilities of the class for every crop of some images, one image and one crop at a time"
    from edf_nrr.cidd import CIDDConfig, crop_views
    cfg,rows = CIDDConfig(crops=4, scale=(.3, 1.), scoring='resized', seed=5),torch.arange(12)
    recipes,odds = surest_crops(data, teacher, rows, cfg)
    views = crop_views(data, cfg)
    for n in range(len(rows)):
        p,drawn = data.pixels('train', rows[n:n+1]),[views.draw(k, rows[n:n+1]) for k in range(4)]
        with torch.no_grad(): probs = [teacher(data.norm.encode(views.apply(p, r))).softmax(1)[0,data.y('train')[n]].item() for r in drawn]
        best = max(range(4), key=probs.__getitem__)
        assert torch.equal(recipes[n], drawn[best][0]) and abs(odds[n].sigmoid().item()-probs[best])<1e-5
        assert max(probs)>min(probs)

@pytest.mark.parametrize('bad,text', [(dict(ipc=0), 'above 0'), (dict(tiles=2), 'square'), (dict(pool=5), 'pool=5 is less'), (dict(scale=(0, 1)), 'scale must be a pair')])
def test_rded_refuses(data, teacher, bad, text):
    with pytest.raises(ValueError, match=text): rded(data, teacher, **dict(dict(ipc=10), **bad))

def test_teacher_is_asked_by_name(data, teacher):
    "A teacher that knows the classes in another order gives the same set"
    class Flipped(torch.nn.Module):
        def __init__(self, net): super().__init__(); self.net,self.classes = net,net.classes[::-1]
        def forward(self, x): return self.net(x).flip(1)
    assert torch.equal(rded(data, Flipped(teacher), 2).images, rded(data, teacher, 2).images)

def test_sre2l_starts_from_noise_and_resumes(data, teacher, tmp_path):
    start = sre2l(data, teacher, 2, iterations=0, seed=3, show=False)
    assert torch.equal(start.images, torch.randn(20, data.channels, 16, 16, generator=rng(3, 'sre2l', 'noise')))
    whole = sre2l(data, teacher, 2, iterations=6, save_every=2, show=False)
    class Stop(Exception): pass
    from edf_nrr.nrr import Refinement as _Refinement
    step,count = _Refinement.step,[0]
    def dies(self):
        if count[0]==5: raise Stop
        count[0] += 1; step(self)
    _Refinement.step = dies
    try:
        with pytest.raises(Stop): sre2l(data, teacher, 2, path=tmp_path, iterations=6, save_every=2, show=False)
    finally: _Refinement.step = step
    again = sre2l(data, teacher, 2, path=tmp_path, iterations=6, save_every=2, show=False)
    assert torch.equal(again.images, whole.images) and again.provenance['method']=='sre2l'
    assert SRE2L.mask=='none' and SRE2L.lr==.25

def test_sre2l_moves_every_pixel(data, teacher):
    a,b = (sre2l(data, teacher, 1, iterations=i, augment=None, show=False).images for i in (0, 2))
    assert (a!=b).float().mean() > .99

# ---- herding, k-centre, MTT, DATM

def test_choice_by_hand(data, teacher):
    "From the network's features to the set, each class by itself, every candidate's mean and every distance computed anew in float64"
    with torch.no_grad(): f = teacher.features(data.x('train')).flatten(1).double()
    y,herd,far = data.y('train'),[],[]
    for c in range(10):
        rows = (y==c).nonzero().flatten().tolist()
        mean,h = f[rows].mean(0),[]
        for _ in range(4): h.append(min((i for i in rows if i not in h), key=lambda i: (f[h+[i]].mean(0)-mean).norm().item()))
        k = [min(rows, key=lambda i: (f[i]-mean).norm().item())]
        while len(k)<4: k.append(max((i for i in rows if i not in k), key=lambda i: (f[i]-f[k]).norm(dim=1).min().item()))
        herd,far = herd+h,far+k
    for how,want in ((herding, herd), (k_center, far)):
        syn = how(data, teacher, 4)
        assert syn.history['image'].tolist()==want and torch.equal(syn.images, data.x('train', torch.tensor(want)))
        assert syn.labels.tolist()==[c for c in range(10) for _ in range(4)]
    assert herd!=far

@pytest.mark.parametrize('how', [herding, k_center])
def test_choice_is_the_same_in_any_batches_and_from_disk(data, teacher, how):
    class Source:
        def __init__(self, x): self.x,self.shape = x,tuple(x.shape[1:])
        def __len__(self): return len(self.x)
        def batch(self, idx): return self.x[torch.as_tensor(idx)]
    streamed = ImageData(Split(Source(data.train.images), data.train.y), data.test, data.classes, data.norm)
    assert not streamed.in_memory('train')
    want = how(data, teacher, 5)
    for other in (how(data, teacher, 5, batch_size=7), how(streamed, teacher, 5)): assert torch.equal(other.images, want.images)
    every = data.y('train').bincount().min().item()
    assert torch.equal(how(data, teacher, 2).images.view(10, 2, -1), want.images.view(10, 5, -1)[:,:2]), 'a smaller set begins like a larger one'
    assert len(how(data, teacher, every).history['image'].unique())==10*every

@pytest.mark.parametrize('how', [herding, k_center])
def test_choice_leaves_the_network_alone_and_refuses(data, how):
    net = create_model('convnet_bn_d2_w8', 10, 16, data.channels)
    before = {k: v.clone() for k,v in net.state_dict().items()}
    how(data, net, 1)
    assert net.training and all(torch.equal(v, before[k]) for k,v in net.state_dict().items()) and not any(m._forward_pre_hooks for m in net.modules())
    for ipc,text in ((0, 'ipc must be a whole number above 0'), (1000, 'the smallest class')):
        with pytest.raises(ValueError, match=text): how(data, net, ipc)
    with pytest.raises(ValueError, match='no linear layer'): how(data, net.features, 1)
    net.features[0].weight.data[0] = float('nan')
    with pytest.raises(ValueError, match='not all finite'): how(data, net, 1)

@pytest.mark.parametrize('kind', [herd, farthest])
def test_ties_go_to_the_first(kind):
    f = torch.randn(6, 4, generator=rng(0)).repeat(5, 1)
    at = kind(f, 6).tolist()
    assert all(i<6 for i in at[:1]) and len(set(at))==6
    if kind is farthest: assert sorted(at)==list(range(6)), 'a copy before the last image that is not one'
    assert kind(torch.zeros(4, 3), 4).tolist()==[0, 1, 2, 3]

@pytest.mark.parametrize('name', ['mtt', 'datm'])
def test_matching_baselines(data, name, tmp_path):
    experts = record_experts(data, tmp_path/'experts', n=2, epochs=3, arch='convnet_d2_w8', lr=.05, show=False)
    cfg,f = EDFConfig(ipc=1, iterations=2, syn_steps=2, lr_img=10., max_start_epoch=1, initial_max_start_epoch=None, expand_until=None, init='random'),dict(mtt=mtt, datm=datm)[name]
    syn = f(data, experts, cfg, tmp_path/'run', show=False, seed=3)
    assert torch.equal(syn.images, distill(data, experts, cfg, show=False, seed=3, **VARIANTS[name]).images)
    assert syn.provenance['method']==name and (tmp_path/'run'/'distilled.safetensors').exists()
    with pytest.raises(ValueError, match=f'{name} is {name} by alpha'): f(data, experts, cfg, alpha=.5)

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('how', [herding, k_center])
def test_choice_on_cuda(data, teacher, how):
    import copy
    syn = how(data.to('cuda'), copy.deepcopy(teacher).cuda(), 3)
    assert syn.images.is_cuda and torch.equal(syn.images.cpu(), data.x('train', syn.history['image']))
    assert (syn.history['image']==how(data, teacher, 3).history['image']).float().mean()>.9
