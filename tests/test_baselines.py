"RDED and SRe2L beyond what their notebook shows"
import pytest, torch, torch.nn.functional as F
from edf_nrr.baselines import SRE2L, rded, sre2l, surest_crops
from edf_nrr.core import Distilled, rng
from edf_nrr.data import cluttered_digits
from edf_nrr.models import create_model

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
    from edf_nrr.cidd import CIDDConfig, _views
    cfg,rows = CIDDConfig(crops=4, scale=(.3, 1.), scoring='resized', seed=5),torch.arange(12)
    recipes,odds = surest_crops(data, teacher, rows, cfg)
    views = _views(data, cfg)
    for n in range(len(rows)):
        p,drawn = data.pixels('train', rows[n:n+1]),[views.draw(k, rows[n:n+1]) for k in range(4)]
        with torch.no_grad(): probs = [teacher(data.norm.encode(views.apply(p, r))).softmax(1)[0,data.y('train')[n]].item() for r in drawn]
        best = max(range(4), key=probs.__getitem__)
        assert torch.equal(recipes[n], drawn[best][0]) and abs(odds[n].sigmoid().item()-probs[best])<1e-5
        assert max(probs)>min(probs)

@pytest.mark.parametrize('bad,text', [(dict(ipc=0), 'at least 1'), (dict(tiles=2), 'square'), (dict(pool=5), 'pool=5 is less'), (dict(scale=(0, 1)), '0 < low')])
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
    from edf_nrr.nrr import _Refinement
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
