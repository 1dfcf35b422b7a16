"Every architecture by name: shapes, seeds, second derivatives, and errors that name the remedy"
import random,subprocess,sys,types
import numpy as np
import pytest,torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from edf_nrr.models import *

ours = ['convnet', 'convnet_bn', 'convnet_d2_w16', 'convnet_bn_d1_w8', 'alexnet_cifar', 'vgg11_cifar', 'resnet18_cifar']
theirs = ['resnet18', 'mobilenet_v3_small', 'squeezenet1_1', 'shufflenet_v2_x0_5']

@pytest.mark.parametrize('channels', [1,3])
@pytest.mark.parametrize('size', [16,32,50])
@pytest.mark.parametrize('arch', ours)
def test_forward(arch, size, channels):
    m = create_model(arch, 7, size, channels)
    assert m.training
    assert m(torch.randn(3, channels, size, size)).shape==(3,7)

@pytest.mark.parametrize('channels', [1,3])
@pytest.mark.parametrize('arch', theirs)
def test_torchvision(arch, channels):
    m = create_model(arch, 7, 64, channels)
    assert m.training and m(torch.randn(2, channels, 64, 64)).shape==(2,7)

def test_vit_takes_the_size():
    assert create_model('vit_b_32', 3, 32)(torch.zeros(1,3,32,32)).shape==(1,3)

@pytest.mark.parametrize('arch', ours)
def test_seed_alone_fixes_the_weights(arch):
    torch.manual_seed(11); random.seed(11); np.random.seed(11)
    states = torch.get_rng_state(),random.getstate(),np.random.get_state()[1].copy()
    a = flatten_params(create_model(arch, 4, 16, seed=5))
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate()==states[1] and (np.random.get_state()[1]==states[2]).all()
    torch.rand(100)
    assert torch.equal(a, flatten_params(create_model(arch, 4, 16, seed=5)))
    assert not torch.equal(a, flatten_params(create_model(arch, 4, 16, seed=6)))

def test_same_weights_in_another_process():
    code = "import torch; torch.rand(3); from edf_nrr.models import *; print(flatten_params(create_model('convnet_w8', 4, 16, seed=2)).double().sum().item())"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert float(out)==flatten_params(create_model('convnet_w8', 4, 16, seed=2)).double().sum().item()

def test_made_on_the_cpu_whatever_the_default_device():
    with torch.device('meta'): m = create_model('convnet_w8', 4, 16)
    assert {p.device.type for p in m.parameters()}=={'cpu'}

def test_failed_build_leaves_the_random_state():
    before = torch.get_rng_state()
    with pytest.raises(ValueError): create_model('alexnet', 10, 32)
    assert torch.equal(torch.get_rng_state(), before)

def smooth(m):
    "Take the kinks out, for finite differences: ReLU and maximum have no second derivative where they switch"
    for name,o in list(m.named_modules()):
        if isinstance(o, nn.ReLU): m.set_submodule(name, nn.Softplus())
        if isinstance(o, nn.MaxPool2d): m.set_submodule(name, nn.AvgPool2d(2))
    return m

@pytest.mark.parametrize('arch', ['convnet_w8', 'convnet_bn_w8', 'vgg11_cifar', 'alexnet_cifar', 'resnet18_cifar'])
def test_gradient_through_a_training_step(arch):
    "d(loss after one step)/d(images) exists and is right along one direction, in float64"
    torch.manual_seed(0)
    net = smooth(create_model(arch, 3, 16)).double()
    buffers = {k:v.clone() for k,v in net.named_buffers()}
    theta,shapes = flatten_params(net),param_shapes(net)
    x,z = torch.randn(2, 6,3,16,16, dtype=torch.float64)
    y,v,h = torch.arange(6)%3,torch.randn_like(x),1e-4
    def loss(t, x): return F.cross_entropy(functional_call(net, (unflatten(t, shapes), {k:v.clone() for k,v in buffers.items()}), (x,)), y)
    def after(x):
        t = theta.clone().requires_grad_()
        g, = torch.autograd.grad(loss(t, x), t, create_graph=True)
        return loss(t-1e-2*g, z)
    gx, = torch.autograd.grad(after(x.requires_grad_()), x)
    along = (after(x+h*v)-after(x-h*v)).item()/(2*h)
    assert (gx*v).sum().item()==pytest.approx(along, rel=1e-3)

@pytest.mark.parametrize('arch', ours)
def test_flat_roundtrip(arch):
    net = create_model(arch, 4, 16)
    theta,shapes = flatten_params(net),param_shapes(net)
    assert len(theta)==n_params(net) and not theta.requires_grad
    assert all(torch.equal(v, p) for v,p in zip(unflatten(theta, shapes).values(), net.parameters()))
    other = create_model(arch, 4, 16, seed=1).eval()
    x = torch.randn(2,3,16,16)
    got = functional_call(other, unflatten(theta, shapes), (x,))
    assert torch.allclose(got, net.eval()(x), atol=1e-6)

def test_gradients_reach_the_vector():
    net = create_model('convnet_w8', 4, 16)
    theta = flatten_params(net).requires_grad_()
    functional_call(net, unflatten(theta, param_shapes(net)), (torch.randn(5,3,16,16),)).square().sum().backward()
    assert theta.grad.abs().min()>=0 and (theta.grad!=0).float().mean()>.8
    assert all(p.grad is None for p in net.parameters())

def test_timm_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ValueError, match='pip install timm'): create_model('timm/resnet10t', 10, 32)

def test_timm(monkeypatch):
    "Against a stand-in with timm's three functions, of which one model takes no img_size"
    def make(name, pretrained, num_classes, in_chans, **kw):
        assert not pretrained
        if name=='cnn' and kw: raise TypeError('img_size')
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
    fake = types.SimpleNamespace(is_model=lambda n: n in ('cnn','vit'), list_models=lambda: ['cnn','vit'], create_model=make)
    monkeypatch.setitem(sys.modules, 'timm', fake)
    for name in ('cnn','vit'): assert create_model(f'timm/{name}', 5, 8, 1)(torch.zeros(2,1,8,8)).shape==(2,5)
    with pytest.raises(ValueError, match='did you mean vit'): create_model('timm/vitt', 5, 8)

def test_real_timm():
    pytest.importorskip('timm', reason='timm is optional')
    assert create_model('timm/resnet10t', 5, 64, 1)(torch.zeros(2,1,64,64)).shape==(2,5)

@pytest.mark.parametrize('args,words', [
    (('resnet',10,32), 'did you mean resnet'), (('zzzz',10,32), 'model_names'), (('convnet_w',10,32), 'did you mean convnet'), (('convnet_d9',10,32), 'depth of 1 to 5'),
    (('convnet_w0',10,32), 'width'), (('alexnet',10,32), 'cannot take'), (('vgg11_cifar',10,8), '16 pixels or more'), (('vit_tiny_cifar',10,28), 'not a multiple of 8'), ((3,10,32), 'name or a function'),
    (('convnet',0,32), 'n_classes'), (('convnet',10,0), 'size'), (('convnet',10,1), 'at least 2'), ((lambda n,s,c: 'net',10,32), 'nn.Module'),
    ((lambda n,s,c: nn.Sequential(nn.Flatten(), nn.Linear(c*s*s, n+1)),10,8), r'\(1, 11\)')])
def test_errors(args, words):
    with pytest.raises(ValueError, match=words): create_model(*args)

def test_every_listed_small_name_is_known():
    names = model_names()
    assert len(set(names))==len(names)>80 and {'convnet','convnet_bn','resnet18_cifar','alexnet_cifar','vgg11_cifar','vit_tiny_cifar','resnet18','vit_b_16'} <= set(names)

# ---- layers that draw ----
class Drops(nn.Module):
    "Drops in its `forward`, where no list of layers shows it"
    def __init__(self, n, s, c): super().__init__(); self.out = nn.Linear(c*s*s, n)
    def forward(self, x): return self.out(F.dropout(x.flatten(1), .5, self.training))

@pytest.mark.parametrize('arch,draws', [('convnet', False), ('resnet18', False), (Drops, True), ('efficientnet_b0', True), ('timm/vit_tiny_patch16_224', False),
    (lambda n, s, c: timm_model('vit_tiny_patch16_224', n, s, c, patch_size=8, depth=2, drop_path_rate=.2), True)], ids=['convnet', 'resnet18', 'in forward', 'stochastic depth', 'no drop path', 'drop path'])
def test_who_draws(arch, draws):
    if 'timm' in str(arch) or arch not in ('convnet', 'resnet18', 'efficientnet_b0', Drops): pytest.importorskip('timm')
    net = create_model(arch, 4, 32).eval()
    x,before = torch.rand(2, 3, 32, 32),{k: v.clone() for k,v in net.state_dict().items()}
    state = torch.get_rng_state()
    assert draws_randomly(net, x)==draws
    assert not net.training and all(torch.equal(v, before[k]) for k,v in net.state_dict().items()) and torch.equal(state, torch.get_rng_state())

def test_draws_of_layers_come_from_a_seed():
    net = Drops(4, 8, 3).train()
    def seen(seed):
        with layer_draws(seed): return net(torch.ones(2, 3, 8, 8))
    a,state = seen(3),torch.get_rng_state()
    torch.rand(5)
    assert torch.equal(a, seen(3)) and not torch.equal(a, seen(4))
    torch.set_rng_state(state)
    with pytest.raises(KeyError), layer_draws(0): raise KeyError
    assert torch.equal(state, torch.get_rng_state())
