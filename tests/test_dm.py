"Distribution matching: runs that go on, plug-ins that do what they should and nothing else, and how it fails"
import os,signal,subprocess,sys,time
import pytest, torch
from torch import nn
from edf_nrr.augment import DSA
from edf_nrr.basics import changed, rng
from edf_nrr.core import Distilled
from edf_nrr.cpd import cpd
from edf_nrr.dae import DAE
from edf_nrr.datasets import cluttered_digits
from edf_nrr.run import Run
from edf_nrr.dm import DMConfig, DMRun, class_means, dm, dm_gradient, untrained
from edf_nrr.core import DistillError
from edf_nrr.models import create_model
from edf_nrr.training import random_real

CFG = DMConfig(ipc=2, iterations=40, lr_img=1., batch_real=8, arch='convnet_d2_w8', save_every=3, cam_interval=5)

def make(): return cluttered_digits(300, 50, size=16, object_fraction=.8, device='cpu')

def trained(data):
    net = create_model('convnet_d2_w8', 10, 16, data.channels, seed=3).eval()
    net.classes = list(data.classes)
    return net

@pytest.fixture(scope='module')
def data(): return make()

@pytest.fixture(scope='module')
def teacher(data): return trained(data)

RUN = '''
import sys
sys.path.insert(0, sys.argv[2])
from test_dm import CFG, dm, make, trained
data = make()
dm(data, CFG, sys.argv[1], trained(data), alpha=.25, beta=1., show=False)
'''

def test_sigkill_resumes_with_the_same_bits(data, teacher, tmp_path):
    whole = dm(data, CFG, cam_model=teacher, alpha=.25, beta=1., show=False)
    p = subprocess.Popen([sys.executable, '-c', RUN, str(tmp_path), os.path.dirname(__file__)], env=dict(os.environ, OMP_NUM_THREADS=str(torch.get_num_threads())))
    end = time.time()+120
    while not (tmp_path/'distilled.safetensors').exists() and p.poll() is None and time.time()<end: time.sleep(.002)
    p.send_signal(signal.SIGKILL)
    assert p.wait()==-signal.SIGKILL, 'it finished before it could be killed'
    assert Distilled.load(tmp_path/'distilled.safetensors').provenance['iteration']<40
    again = dm(data, CFG, tmp_path, teacher, alpha=.25, beta=1., show=False)
    assert torch.equal(again.images, whole.images) and torch.equal(again.history['loss'], whole.history['loss'])
    assert again.provenance['method']=='dm+cpd+dae' and len(again.history['loss'])==40

def test_a_path_holds_one_run(data, teacher, tmp_path):
    dm(data, CFG, tmp_path, teacher, iterations=2, beta=1., show=False)
    for bad,text in ((dict(alpha=.5), 'alpha'), (dict(seed=1), 'images, seed'), (dict(iterations=1), 'iteration 2 already')):
        with pytest.raises(ValueError, match=text): dm(data, CFG, tmp_path, teacher, **dict(dict(iterations=2, beta=1.), **bad), show=False)
    other = create_model('convnet_d2_w8', 10, 16, data.channels, seed=4).eval()
    other.classes = teacher.classes
    with pytest.raises(ValueError, match='cam_model differ'): dm(data, CFG, tmp_path, other, iterations=2, beta=1., show=False)

def test_seed_fixes_every_bit_and_nothing_else_does(data):
    a = dm(data, CFG, iterations=2, show=False).images
    torch.manual_seed(5)
    assert torch.equal(dm(data, CFG, iterations=2, save_every=1, show=False).images, a)
    assert not torch.equal(dm(data, CFG, iterations=2, seed=1, show=False).images, a)

def test_starts(data):
    for init,want in (('real', random_real(data, 2, 7).images), ('noise', torch.randn(20, data.channels, 16, 16, generator=rng(7, 'dm', 'noise')))):
        job = DMRun(data, changed(CFG, init=init, seed=7))
        assert torch.equal(job.state['images'], want)
        assert torch.equal(job.labels, data.y('train')[job.rows[0][:1]]*0 + torch.arange(10).repeat_interleave(2))

def test_one_iteration_is_momentum_sgd_on_the_weighted_gradient(data, teacher):
    "Two steps by hand from the same draws: CPD in the gradient, DAE on it, momentum after it"
    cfg = changed(CFG, alpha=.25, beta=1.5, lr_img=.3, momentum=.7)
    job,x,v = DMRun(data, cfg, teacher),random_real(data, 2, 0).images,0
    dae = DAE(teacher, 1.5, 5, classes=data.classes)
    for it in range(2):
        net,real,n,views = job.drawn()
        _,g = dm_gradient(net, real, n, x, [2]*10, cfg.augment, views, cpd(.25))
        v = .7*v + g*dae(x, job.labels, it)
        x = x-.3*v
        job.step()
    assert torch.allclose(job.state['images'], x, atol=1e-6) and (x-random_real(data, 2, 0).images).abs().max()>1e-3

def test_every_iteration_draws_anew_and_one_view_serves_a_class(data):
    job = DMRun(data, CFG)
    a = job.drawn()
    job.it = 1
    b = job.drawn()
    assert not torch.equal(a[0].features[0].weight, b[0].features[0].weight) and not torch.equal(a[1], b[1])
    assert len(a[3])==10 and all(v.values.shape[1]==1 for v in a[3]) and len({v.ops for v in a[3]+b[3]})>1
    assert a[2]==[8]*10 and len(torch.unique(a[1].flatten(1), dim=0))==80, 'a real image twice in one batch'

def test_small_classes_give_all_they_have(data):
    n = data.y('train').bincount().tolist()
    assert DMRun(data, changed(CFG, batch_real=1000)).drawn()[2]==n

@pytest.mark.parametrize('arch', ['convnet_bn_d2_w8', 'alexnet_cifar', 'vgg11_cifar', 'resnet18_cifar'])
def test_architectures(data, arch):
    out = dm(data, CFG, iterations=1, arch=arch, batch_real=4, show=False)
    assert out.images.isfinite().all() and not torch.equal(out.images, random_real(data, 2, 0).images)

def test_batchnorm_sees_all_classes_and_dropout_is_off(data):
    net = untrained('convnet_bn_d2_w8', data)
    assert all(m.training==isinstance(m, nn.BatchNorm2d) for m in net.modules())
    x = data.x('train')[:90]
    want = net.features(x).flatten(1).view(9, 10, -1).mean(1)
    assert torch.allclose(class_means(net, x, [10]*9), want, atol=1e-6)
    pieces = torch.stack([net.features(o).flatten(1).mean(0) for o in x.split(10)])
    assert (pieces-want).norm()>.01*want.norm()

def test_students_default_to_its_network(data):
    from edf_nrr.training import student_arch
    assert student_arch(dm(data, CFG, iterations=1, show=False))=='convnet_d2_w8'

@pytest.mark.parametrize('bad,text', [(dict(ipc=0), 'ipc'), (dict(ipc=1000), 'fewer than ipc=1000'), (dict(iterations=0), 'iterations'), (dict(lr_img=-1), 'lr_img'), (dict(momentum=1.), 'momentum'),
                                      (dict(alpha=1.), 'alpha'), (dict(beta=-1.), 'beta'), (dict(beta=1.), 'train_teacher'), (dict(augment=DSA()), 'siamese=True'), (dict(init='zero'), 'noise'),
                                      (dict(arch='convnett'), 'did you mean'), (dict(arch=nn.Linear), 'arch must be a text'), (dict(arch='squeezenet1_1'), 'cannot take images'), (dict(cam_method='x'), 'gradcam'),
                                      (dict(lr=1.), 'lr_img')])
def test_bad_settings_leave_no_folder(data, tmp_path, bad, text):
    with pytest.raises(ValueError, match=text): dm(data, CFG, tmp_path/'run', show=False, **bad)
    assert not (tmp_path/'run').exists()

def test_a_cam_model_of_other_classes_is_refused(data, tmp_path):
    net = trained(data)
    net.classes = ['x', *net.classes[1:]]
    with pytest.raises(ValueError, match="no output for \\['0'\\]"): dm(data, CFG, tmp_path/'run', net, beta=1., show=False)
    assert not (tmp_path/'run').exists()

def test_not_finite_changes_nothing(data, tmp_path):
    job = DMRun(data, CFG)
    with Run(tmp_path, job.identity()) as run:
        job.open(run)
        job.step()
        before = job.state['images'].clone()
        draw = job.drawn
        def broken():
            net,*rest = draw()
            net.features[0].weight[0] = float('nan')
            return net,*rest
        job.drawn = broken
        with pytest.raises(DistillError, match='iteration 1 has loss nan') as e: job.step()
    assert torch.equal(e.value.last_good.images, before) and torch.equal(job.state['images'], before)
    assert torch.equal(Distilled.load(tmp_path/'distilled.safetensors').images, before)
    a,b = dm(data, CFG, tmp_path, iterations=3, show=False),dm(data, CFG, iterations=3, show=False)
    assert torch.equal(a.images, b.images)

def second_half(err): return torch.arange(len(err))>=len(err)//2
def growing(images, labels, it): return torch.tensor(1.+it)

def test_parts_of_ones_own(data, teacher, tmp_path):
    "They replace CPD and DAE whatever the settings say, name the method, and are part of the run's identity"
    parts = dict(keep=second_half, weigh=growing)
    a,b = (dm(data, CFG, iterations=3, show=False, **parts, **o) for o in ({}, dict(alpha=.5, beta=1.)))
    assert torch.equal(a.images, b.images) and a.provenance['method']=='dm+keep:second_half+weigh:growing'
    assert {'keep', 'weigh'} <= a.provenance.keys() and 'cam_model' not in b.provenance
    explicit = dm(data, CFG, iterations=3, keep=cpd(.25), weigh=DAE(teacher, 1., 5, classes=data.classes), show=False)
    assert torch.equal(explicit.images, dm(data, CFG, cam_model=teacher, iterations=3, alpha=.25, beta=1., show=False).images)
    dm(data, CFG, tmp_path, iterations=2, show=False, **parts)
    for k,other in (('weigh', lambda images, labels, it: torch.tensor(2.)), ('keep', None)):
        with pytest.raises(ValueError, match=f'{k} differ'): dm(data, CFG, tmp_path, iterations=3, show=False, **{**parts, k: other})
    assert torch.equal(dm(data, CFG, tmp_path, iterations=3, show=False, **parts).images, a.images)

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_cuda(data, teacher):
    cfg = changed(CFG, iterations=3, alpha=.25, beta=1.)
    a,b = dm(data, cfg, cam_model=teacher, show=False),dm(data.to('cuda'), cfg, cam_model=trained(data).cuda(), show=False)
    assert b.images.is_cuda and (a.images-b.images.cpu()).abs().max() < 1e-2*(a.images-random_real(data, 2, 0).images).abs().max()
