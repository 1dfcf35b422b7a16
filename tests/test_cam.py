"Faults and side effects of the class activation maps; their numbers are checked in nbs/05_cam.ipynb"
import pytest, torch
from torch import nn
from edf_nrr.basics import rng
from edf_nrr.models import create_model
from edf_nrr.cam import cam, cam_methods, class_maps, energy_inside, map_and_gradient, mask_iou
from edf_nrr.cam import pointing_game, unit_maps

gradient_methods = cam_methods[1:]
def images(n=5, size=32, seed=0): return torch.randn(n, 3, size, size, generator=rng(seed, 'test_cam'))
def hooks(net): return sum(len(m._forward_hooks)+len(m._forward_pre_hooks)+len(m._backward_hooks) for m in net.modules())

@pytest.fixture
def net():
    "A small network with BatchNorm, dropout and a pooled head, in training mode with one module in eval"
    torch.manual_seed(0)
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(.5), nn.Conv2d(8, 6, 3), nn.ReLU(inplace=True)),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    net.classes = ['ant', 'bee', 'cat', 'dog']
    net.train()[0][1].eval()
    return net

@pytest.mark.parametrize('arch,size', [('convnet',32), ('convnet_bn_d2_w16',16), ('resnet18_cifar',32), ('alexnet_cifar',32), ('vgg11_cifar',32),
                                       ('resnet18',32), ('densenet121',64), ('mobilenet_v2',64), ('squeezenet1_1',64), ('vgg11',32)])
@pytest.mark.parametrize('method', gradient_methods)
def test_every_architecture(arch, size, method):
    net,x = create_model(arch, 10, size),images(2, size)
    maps = cam(net, x, [1, 2], method, samples=2)
    assert maps.shape==(2, size, size) and maps.min()>=0 and maps.max()<=1 and maps.isfinite().all() and not maps.requires_grad
    assert hooks(net)==0 and net.training

@pytest.mark.parametrize('arch,size', [('resnet18_cifar',32), ('vgg11_cifar',64), ('mobilenet_v2',64)])
def test_cam_is_gradcam_on_pooled_heads(arch, size):
    net,x = create_model(arch, 10, size).double(),images(2, size).double()
    assert (cam(net, x, [1, 2], 'cam')-cam(net, x, [1, 2], 'gradcam')).abs().max()<1e-6

def test_cam_after_an_in_place_relu():
    "DenseNet pools what a functional in-place ReLU leaves of its last layer's output"
    net,x = create_model('densenet121', 10, 64).double().eval(),images(2, 64).double()
    raw = class_maps(net, x, [1, 2], 'cam')
    assert torch.allclose(raw.mean((1,2)), net(x)[[0,1],[1,2]]-net.classifier.bias[[1,2]])

@pytest.mark.parametrize('method', cam_methods)
def test_leaves_everything_as_it_was(net, method):
    net[3].weight.grad = torch.full_like(net[3].weight, 7)
    modes,state,x = [m.training for m in net.modules()],{k: v.clone() for k,v in net.state_dict().items()},images()
    seen = x.clone()
    torch.manual_seed(3); before = torch.get_rng_state()
    cam(net, x, 1, method)
    assert modes==[m.training for m in net.modules()] and hooks(net)==0
    assert all(torch.equal(v, state[k]) for k,v in net.state_dict().items()) and torch.equal(x, seen) and x.grad is None
    assert (net[3].weight.grad==7).all() and all(p.grad is None and p.requires_grad for p in net[0].parameters())
    assert torch.equal(torch.get_rng_state(), before), 'the global random state was used'

@pytest.mark.parametrize('method', cam_methods)
def test_leaves_everything_after_an_exception(net, method):
    class Broken(nn.Module):
        def forward(self, x): raise RuntimeError('out of luck')
    net[2],modes = Broken(),[m.training for m in net.modules()]
    with pytest.raises(RuntimeError, match='out of luck'): cam(net, images(), 1, method)
    assert hooks(net)==0 and torch.is_grad_enabled() and modes==[m.training for m in net.modules()]

@pytest.mark.parametrize('method', cam_methods)
@pytest.mark.parametrize('batch_size', [1, 3, 100])
def test_batch_size_changes_nothing(net, method, batch_size):
    x,y = images(7).double(),torch.arange(7)%4
    net.double()
    ref = cam(net, x, y, method)
    assert (cam(net, x, y, method, batch_size=batch_size)-ref).abs().max()<1e-9
    alone = torch.cat([cam(net, x[i:i+1], y[i], method) for i in range(7)]) if method!='smoothgradcam++' else ref
    assert (alone-ref).abs().max()<1e-9

@pytest.mark.parametrize('method', cam_methods)
def test_any_gradient_mode(net, method):
    x,ref = images(),cam(net, images(), 2, method)
    with torch.no_grad(): assert torch.equal(cam(net, x, 2, method), ref) and not torch.is_grad_enabled()
    with torch.inference_mode(): assert torch.equal(cam(net, images(), torch.full((5,), 2), method), ref)
    assert torch.equal(cam(net, x.clone().requires_grad_(), 2, method), ref)
    for p in net.parameters(): p.requires_grad_(False)
    assert torch.equal(cam(net, x, 2, method), ref)

def test_noise_has_a_seed():
    net,x = create_model('convnet_d2_w8', 4, 16).double(),images(4, 16).double()
    def f(gen=None, **kw): return cam(net, x, 1, 'smoothgradcam++', 'features.2', generator=gen, **kw)
    assert torch.equal(f(), f()) and torch.equal(f(rng(1)), f(rng(1), batch_size=3)) and not torch.equal(f(rng(1)), f(rng(2)))
    assert (f(std=0)-cam(net, x, 1, 'gradcam++', 'features.2')).abs().max()<1e-9
    assert (cam(net.float(), x.float(), 1, 'smoothgradcam++', 'features.2', generator=rng(1))-f_double(net, x, rng(1))).abs().max()<1e-3
def f_double(net, x, gen): return cam(net.double(), x, 1, 'smoothgradcam++', 'features.2', generator=gen)

@pytest.mark.parametrize('classes,message', [(4, '4 outputs'), ([0, 1, 2, 3, 9], 'class index 9'), (-1, 'negative'), ([0, 1], '2 classes for 5'), (torch.rand(5, 4), 'argmax'),
                                             ('bea', "'bee'"), ('zebra', 'ant'), (['ant', 1, 2, 3, 0], 'no class'), (1.5, 'argmax')])
@pytest.mark.parametrize('method', cam_methods)
def test_wrong_classes(net, classes, message, method):
    with pytest.raises(ValueError, match=message): cam(net, images(), classes, method)
    assert hooks(net)==0

def test_wrong_index_shows_in_the_first_batch(net):
    calls,h = [],None
    h = net.register_forward_hook(lambda *a: calls.append(1))
    with pytest.raises(ValueError, match='index 8'): cam(net, images(6), [0]*5+[8], batch_size=1)
    h.remove()
    assert len(calls)==1

def test_names_follow_the_model(net):
    x = images(2)
    assert torch.equal(cam(net, x, ['dog', 'ant']), cam(net, x, [3, 0]))
    del net.classes
    with pytest.raises(ValueError, match=r'\.classes'): cam(net, x, 'dog')

@pytest.mark.parametrize('kw,message', [(dict(method='gradcam+'), 'gradcam'), (dict(layer='0.9'), '0.4'), (dict(layer='1'), 'more than one pixel'), (dict(layer=nn.Conv2d(3, 3, 3)), 'not part'),
                                        (dict(batch_size=0), 'batch_size'), (dict(samples=0), 'samples'), (dict(std=-1.), 'std')])
def test_wrong_arguments(net, kw, message):
    with pytest.raises(ValueError, match=message): cam(net, images(), 0, **kw)

def test_wrong_images(net):
    with pytest.raises(ValueError, match='expected a float batch'): cam(net, images()[0], 0)
    with pytest.raises(ValueError, match='uint8'): cam(net, images().byte(), 0)
    with pytest.raises(ValueError, match='not finite'): cam(net, images()*float('nan'), 0)
    assert cam(net, images(0), []).shape==(0, 32, 32)

def test_wrong_models(net):
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(3*32*32, 4))
    for o in cam_methods:
        with pytest.raises(ValueError, match='no convolution'): cam(mlp, images(), 0, o)
    with pytest.raises(ValueError, match="method='gradcam'"): cam(create_model('convnet', 4, 32), images(), 0, 'cam')
    with pytest.raises(ValueError, match="method='gradcam'"): cam(create_model('squeezenet1_1', 4, 64), images(2, 64), 0, 'cam')
    class Aside(nn.Module):
        "Runs a convolution whose output is not used"
        def __init__(self): super().__init__(); self.net,self.aside = net,nn.Conv2d(3, 2, 3)
        def forward(self, x): self.aside(x); return self.net(x)
    with pytest.raises(ValueError, match='do not depend'): cam(Aside(), images(), 0, layer='aside')
    class Boxes(nn.Module):
        def __init__(self): super().__init__(); self.conv = nn.Conv2d(3, 4, 3)
        def forward(self, x): return dict(boxes=self.conv(x))
    with pytest.raises(ValueError, match='scores'): cam(Boxes(), images(), 0)

@pytest.mark.parametrize('method', gradient_methods)
def test_module_in_place_of_name(net, method):
    x = images()
    assert torch.equal(cam(net, x, 1, method, net[0][4]), cam(net, x, 1, method, '0.4'))

def test_map_before_an_in_place_relu(net):
    "The layer's own output, not what the in-place ReLU after it leaves"
    net.eval()
    A,g = map_and_gradient(net, images(), 1, '0.4')
    assert A.min()<0
    assert torch.allclose(A, net[0][:5](images())) and torch.allclose(g, (A>0)*(net[3].weight[1]/A[0,0].numel())[:,None,None])

def test_dead_class_gives_zeros():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad(): net[4].weight.copy_(torch.tensor([[0.]*4, [-1.]*4]))
    for o in cam_methods:
        for c in (0, 1): assert (cam(net, images(), c, o)==0).all()

def test_unit_maps_of_rounding_noise_are_zero():
    maps = torch.full((2, 8, 8), .1)+torch.rand(2, 8, 8)*1e-8
    assert (unit_maps(maps, (32, 32))==0).all()

def test_memory_stops_at_the_layer(net):
    "Nothing of the layers before the cut is kept for the backward pass"
    net.eval()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(tuple(t.shape)) or t, lambda t: t): map_and_gradient(net, images(), 1, '0.5')
    assert saved and not any(s[1:]==(3, 32, 32) or s[:2]==(5, 8) for s in saved if len(s)==4)

def test_measures_check_shapes():
    for f in (pointing_game, energy_inside, mask_iou):
        with pytest.raises(ValueError, match='one shape'): f(torch.zeros(2, 4, 4), torch.zeros(2, 8, 8))

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('method', cam_methods)
def test_cuda(net, method):
    net,x = net.double(),images().double()
    ref,res = cam(net, x, [0, 1, 2, 3, 0], method),cam(net.cuda(), x.cuda(), torch.tensor([0, 1, 2, 3, 0]).cuda(), method)
    assert res.is_cuda and (res.cpu()-ref).abs().max()<1e-6

@pytest.mark.parametrize('method', cam_methods)
def test_torchcam_layer(method):
    "The default layer is torchcam's own choice"
    core = pytest.importorskip('torchcam.methods._utils')
    for arch,size in [('resnet18_cifar',32), ('convnet',32), ('densenet121',64), ('mobilenet_v2',64)]:
        net = create_model(arch, 10, size).eval()
        name = core.locate_candidate_layer(net, (3, size, size))
        if method!='cam' or arch=='resnet18_cifar':
            a,b = [class_maps(net, images(2, size), 1, method, o) for o in (None, name)]
            assert torch.equal(a, b), (arch, name)
