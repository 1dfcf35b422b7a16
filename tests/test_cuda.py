"Hot loops hand their work to CUDA without waiting for it; skipped without a CUDA device"
from contextlib import contextmanager
import pytest, torch
from edf_nrr.datasets import cluttered_digits
from edf_nrr.augment import DSA
from edf_nrr.training import Recipe, random_real, train_student, train_students, train_teacher
from edf_nrr.trajectory import ExpertConfig, expert_epoch, expert_forward, record_experts
from edf_nrr.matching import adjoint_gradient
from edf_nrr.edf import EDFConfig, MatchingRun
from edf_nrr.dbr import relabel, train_from_labels
from edf_nrr.models import create_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
ARCH = 'convnet_d2_w8'

@pytest.fixture(scope='module')
def data(): return cluttered_digits(200, 50, size=16, object_fraction=.6, device='cuda')

@contextmanager
def no_waits():
    torch.cuda.set_sync_debug_mode('error')
    try: yield
    finally: torch.cuda.set_sync_debug_mode('default')

def from_now_on(net, epoch): torch.cuda.set_sync_debug_mode('error' if epoch==1 else 'default')

@pytest.mark.parametrize('augment', [None, DSA()])
def test_cuda_students(data, augment):
    "From the end of the first epoch to that of the second"
    with no_waits():
        torch.cuda.set_sync_debug_mode('default')
        for f,which in ((train_student, 0), (train_students, range(2))): f(random_real(data, 2), ARCH, which, Recipe(epochs=2, augment=augment), from_now_on)

@pytest.mark.parametrize('kind', ['distances', 'soft'])
def test_cuda_students_of_labels(data, kind):
    syn = random_real(data, 2)
    teacher = train_teacher(data, 'convnet_bn_d2_w8', epochs=10, lr=1e-2, batch_size=32, augment=None, show=False)
    labels = relabel(syn, teacher, kind, epochs=2, show=False)
    with no_waits():
        torch.cuda.set_sync_debug_mode('default')
        train_from_labels(syn, labels, ARCH, 0, check=from_now_on)

def test_cuda_experts(data):
    "An epoch"
    cfg,net = ExpertConfig(arch=ARCH, batch_size=50),create_model(ARCH, 10, 16, 3, seed=0).cuda()
    params = [p.detach().clone() for p in net.parameters()]
    state = expert_forward(net, cfg),params,[torch.zeros_like(p) for p in params]
    data.y('train')
    with no_waits(): expert_epoch(*state, data, cfg, 0, 1)

def test_cuda_matching(data, tmp_path):
    "Drawing the steps of an iteration and its gradient"
    experts = record_experts(data, tmp_path, n=1, epochs=2, arch=ARCH, lr=.05, show=False)
    job = MatchingRun(data, experts, EDFConfig(ipc=2, syn_steps=3, batch_syn=8, init='random', beta=None, initial_max_start_epoch=None, max_start_epoch=1))
    job.start()
    syn,ends = job.result(),[experts.params(0, e, data.device) for e in (0, 1)]
    with no_waits():
        batches,views = job.draw_steps()
        adjoint_gradient(job.forward, *ends, syn.images, syn.logits, job.state['lr'], batches, views, job.cfg.augment, job.keep)
