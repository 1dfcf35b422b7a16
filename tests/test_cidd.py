"The first set from real crops, and how it fails"
import pytest, torch
from torch import nn
from edf_nrr.basics import changed
from edf_nrr.core import Distilled
from edf_nrr.data import ImageData, Split
from edf_nrr.datasets import cluttered_digits
from edf_nrr.models import create_model
from edf_nrr.cidd import CIDDConfig, choose, initialise

class Counting:
    "A source that remembers the largest batch it was asked for"
    def __init__(self, images): self.images,self.shape,self.most = images,tuple(images.shape[1:]),0
    def __len__(self): return len(self.images)
    def batch(self, idx):
        self.most = max(self.most, len(idx))
        return self.images[torch.as_tensor(idx)]

@pytest.fixture(scope='module')
def data(): return cluttered_digits(300, 100, size=16, device='cpu')

@pytest.fixture(scope='module')
def teacher(data):
    net = create_model('convnet_bn_d2_w8', 10, 16, 3).eval()
    net.classes = list(data.classes)
    return net

ANY = CIDDConfig(require_correct=False, pool=20)

def test_streams_a_batch_at_a_time_and_gives_the_same_set(data, teacher):
    source = Counting(data.train.images)
    streamed = ImageData(Split(source, data.train.y), data.test, data.classes, data.norm)
    a = initialise(streamed, teacher, 3, ANY, batch_size=7)
    assert 1<=source.most<=7
    assert torch.equal(a.images, initialise(data, teacher, 3, ANY).images)

@pytest.mark.parametrize('select', ['low', 'medium', 'high'])
@pytest.mark.parametrize('scoring', ['resized', 'zero-padded'])
@pytest.mark.parametrize('tiles', [1, 4])
def test_every_setting_is_fixed_by_seed_and_not_by_batches(data, teacher, select, scoring, tiles):
    cfg = changed(ANY, select=select, scoring=scoring, tiles=tiles, keep=12)
    a,b,c = initialise(data, teacher, 2, cfg), initialise(data, teacher, 2, cfg, batch_size=9), initialise(data, teacher, 2, cfg, seed=5)
    assert torch.equal(a.images, b.images) and not torch.equal(a.images, c.images)
    assert a.labels.tolist()==[c for c in range(10) for _ in range(2)] and a.images.isfinite().all()
    assert 0<=a.pixels().min() and a.pixels().max()<=1

@pytest.mark.parametrize('method', ['gradcam++', 'smoothgradcam++'])
def test_other_maps(data, teacher, method):
    a,b = (initialise(data, teacher, 2, ANY, cam_method=method, batch_size=o) for o in (11, 64))
    assert torch.equal(a.images, b.images)

def test_saves_and_loads(data, teacher, tmp_path):
    a = initialise(data, teacher, 2, ANY, tiles=4)
    a.save(tmp_path/'a.safetensors')
    b = Distilled.load(tmp_path/'a.safetensors')
    assert torch.equal(a.images, b.images) and b.provenance['config']['tiles']==4 and torch.equal(a.history['image'], b.history['image'])

def test_small_class_is_named(data, teacher):
    keep = torch.cat([(data.train.y!=7).nonzero().flatten(), (data.train.y==7).nonzero().flatten()[:3]])
    few = ImageData(data.train.select(keep), data.test, data.classes, data.norm)
    with pytest.raises(ValueError, match="class '7' has 3 training images, 4 are needed"): initialise(few, teacher, 4, ANY)
    with pytest.raises(ValueError, match="class '7' has 3 training images, 4 are needed"): initialise(few, teacher, 1, ANY, tiles=4)

def test_too_few_correct_crops_name_the_class(data, teacher):
    class Stubborn(nn.Module):
        classes = data.classes
        def __init__(self): super().__init__(); self.net = teacher
        def forward(self, x): return self.net(x)-1e3*torch.eye(10)[0]
    with pytest.raises(ValueError, match="0 crops of class '0' correctly, 2 are needed"): initialise(data, Stubborn(), 2, ANY, require_correct=True)

@pytest.mark.parametrize('change,match', [(dict(ipc=0), 'ipc'), (dict(batch_size=0), 'batch_size'), (dict(keep=2), 'keep=2'), (dict(pool=2), 'pool=2'),
                                          (dict(tiles=3), '1, 4, 9'), (dict(scoring='padded'), 'zero-padded'), (dict(selects='low'), 'select'),
                                          (dict(tiles=81, pool=300), 'fewer tiles')])
def test_bad_settings(data, teacher, change, match):
    with pytest.raises(ValueError, match=match): initialise(data, teacher, **{**dict(ipc=3, cfg=ANY), **change})

def test_teacher_of_other_classes(data, teacher):
    net = nn.Sequential(teacher)
    with pytest.raises(ValueError, match='.classes'): initialise(data, net, 2, ANY)
    net.classes = [f'class {o}' for o in data.classes]
    with pytest.raises(ValueError, match='the network has no output for'): initialise(data, net, 2, ANY)

def test_teacher_with_more_classes_is_asked_by_name(data, teacher):
    class More(nn.Module):
        classes = ['cat', *data.classes[::-1]]
        def __init__(self): super().__init__(); self.net = teacher
        def forward(self, x):
            z = self.net(x).flip(1)
            return torch.cat([z.new_full((len(z), 1), -50), z], 1)
    assert torch.equal(initialise(data, More(), 2, ANY).images, initialise(data, teacher, 2, ANY).images)

def test_teacher_keeps_its_mode(data, teacher):
    net = create_model('convnet_bn_d2_w8', 10, 16, 3).train()
    net.classes = data.classes
    before = {k: v.clone() for k,v in net.state_dict().items()}
    initialise(data, net, 2, ANY)
    assert net.training and all(torch.equal(v, before[k]) for k,v in net.state_dict().items())

def test_flat_maps_do_not_break_the_choice():
    flat,sure = torch.full((6,), .3),torch.arange(6.)
    assert choose(flat, sure, 2, select='low').tolist()==[0, 1]
    assert choose(flat, sure, 2, select='high').tolist()==[2, 1]
