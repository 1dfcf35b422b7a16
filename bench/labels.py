"""What labels teach by what they weigh: every kind of label under one student budget, on two data sets

    python bench/labels.py PATH            # folder with CIFAR-10 as parquet files; on 1 core 5 minutes of teachers, then half an hour of students

Ten random real images a class of CIFAR-10 (16x16), and of two cluttered digits side by side (100 classes). A seed fixes images, views and student, and is shared
by all labels, so that differences are paired. The teacher answers once about every view; each label keeps of these answers what it keeps. Teachers, and the
accuracies of each finished seed, stay in `runs`, so a stopped run goes on where it was.

Bytes are those of all that is stored over all views: what an average or a code takes is shared by the views of its set.
"""
import time
from pathlib import Path
import torch
from fastcore.script import call_parse
from keep import kept_teacher
from edf_nrr.basics import progress, read_json, rng, write_json, write_results
from edf_nrr.data import ImageData, Split, held_out
from edf_nrr.datasets import digit_pixels, digit_strokes, paint_digits, photo_background
from edf_nrr.files import parquet
from edf_nrr.training import accuracy, random_real
from edf_nrr.dbr import Labels, StudentLoss, distilled_id, evaluate_labels, label_views
from edf_nrr.dbr import labels_recipe, mixed_views, pack_distances, unpack_distances, view_label
from edf_nrr.codes import fit_code

# ---- pairs of digits over clutter ----
def _pairs(n, pool, test, size, side, seed):
    "`n` images of two digits side by side, each in a square of `side` pixels, from a (10,n_c,1,8,8) list of digits"
    xs,ys = [],[]
    for i in range(0, n, 500):
        g,y = rng(seed, 'pairs', 'test' if test else 'train', i),torch.arange(i, min(i+500, n))%100
        u = torch.rand(len(y), 27, generator=g)
        x = photo_background(u[:,:9], size, test)
        for j,c in enumerate((y//10, y%10)):
            v = u[:,9*j+9:9*j+18]
            digit = torch.stack([pool[a][int(b*len(pool[a]))] for a,b in zip(c.tolist(), v[:,0])])
            place = torch.stack([v[:,1], torch.full_like(v[:,1], .99*j)], 1)
            x = paint_digits(x, digit_strokes(digit, place, side, size), v[:,2:8])
        xs.append((x*255).round().byte()); ys.append(y)
    return Split(torch.cat(xs), torch.cat(ys))

def cluttered_pairs(n_train, n_test, size=20, side=10, seed=0):
    "Two real digits upon a real photograph: classes 00 to 99; no writer and no photograph is in both splits"
    p,y = digit_pixels()
    pools = [[p[i][y[i]==c] for c in range(10)] for i in held_out(y, .3, 0)]
    splits = [_pairs(n, o, t, size, side, seed) for n,o,t in zip((n_train, n_test), pools, (False, True))]
    return ImageData(*splits, [f'{i:02d}' for i in range(100)], name='cluttered pairs of digits', device='cpu')

TEACHER = 'convnet_bn_d2_w64'

# ---- labels ----
class Answers:
    "A teacher's log-probabilities `z` (epochs,N,K) of all views of a set, and labels made of them"
    @torch.no_grad()
    def __init__(self, syn, teacher, views, epochs):
        n = len(syn)
        self.syn,self.views,mixed = syn,views,[mixed_views(syn, views, e, range(n)) for e in range(epochs)]
        self.z = torch.stack([teacher(m.x).log_softmax(1) for m in mixed])
        self.own,self.lam = (torch.stack([getattr(m, k) for m in mixed]) for k in ('own', 'lam'))
        self.images = torch.stack([torch.stack([torch.arange(n), views.mix(e, torch.arange(n), n).partner], 1) for e in range(epochs)])
        self.K,self.views_n = self.z.shape[2],epochs*n

    def labels(self, kind, d, classes=None, code=None, d_max=10.): return Labels(kind, self.views, d, classes, self.syn.classes, distilled_id(self.syn), d_max, code)
    def soft(self, z): return self.labels('soft', -z)
    def stored(self, kind, k=2, dtype='float16', d_max=10.):
        "What `relabel` would store"
        first = self.z[:-(-10*self.K//len(self.syn))].flatten(0, 1)
        code = fit_code(first, k) if kind=='components' else None
        d,c = view_label(self.z.flatten(0, 1), self.own.flatten(0, 1), kind, dtype, k, d_max, code)
        def shape(o): return None if o is None else o.view(*self.z.shape[:2], -1) if o.shape[1] else o.view(*self.z.shape[:2], 0)
        l = self.labels(kind, shape(d), shape(c), code, d_max)
        return l.nbytes/self.views_n,l

    def average(self, of):
        "Each view predicted from averages of its two classes or images, mixed by lambda: their least-squares fit, and its bytes in fp16"
        index,n = (self.own, self.K) if of=='class' else (self.images, len(self.syn))
        A = torch.zeros(self.views_n, n, dtype=torch.float64).scatter_add(1, index.view(-1, 2), torch.stack([self.lam, 1-self.lam], 2).view(-1, 2).double())
        table = torch.linalg.solve(A.T@A+1e-6*torch.eye(n), A.T@self.z.view(-1, self.K).double()).half()
        return 2*table.numel()/self.views_n,(A@table.double()).float().view_as(self.z)

    def confusing(self):
        "Of each class, the other class that the teacher gives most probability in its views"
        p = torch.zeros(self.K, self.K).index_add(0, self.own[...,0].flatten(), self.z.exp().flatten(0, 1)*self.lam.view(-1, 1))
        return p.fill_diagonal_(0).argmax(1)

    def bins(self, classes):
        "One-byte distances to some classes (epochs,N,k), which cost nothing to know"
        d = unpack_distances(pack_distances(-self.z.gather(2, classes), 'uint8'))
        return classes.shape[2],self.labels('topk', d, classes)

    def overwritten(self, z, k):
        "`z` with the k most probable classes as they are, to a byte"
        v,c = self.z.topk(k)
        return z.scatter(2, c, -unpack_distances(pack_distances(-v, 'uint8')))

    def quantised(self, bits):
        "Logits in so many bits each, evenly between the smallest and the largest of a view, which are kept in fp16"
        low,high = self.z.amin(2, True).half().float(),self.z.amax(2, True).half().float()
        n = 2**bits-1
        return self.K*bits/8+4,self.soft(((self.z-low)/(high-low)*n).round().clamp(0, n)/n*(high-low)+low)

def rows(a):
    "Name to bytes a view, labels and loss of everything that is compared"
    kl,l1,spread,cold = StudentLoss(),StudentLoss('l1'),StudentLoss(rest='spread'),StudentLoss(temperature=1.)
    conf,K = a.confusing(),a.K
    anchors = torch.arange(0, K, -(-K//4)).expand(*a.z.shape[:2], -1)
    v,c = a.z.topk(2)
    rest = ((a.z.sum(2)-v.sum(2))/(K-2))[:,:,None].expand_as(a.z)
    (cb,cz),(ib,iz) = a.average('class'),a.average('image')
    code = fit_code((a.z-cz)[:-(-10*K//len(a.syn))].flatten(0, 1), 4)
    residual = code.decode(code.encode((a.z-cz).flatten(0, 1))).view_as(a.z)
    out = {'hard': (*a.stored('hard'), kl), 'two distances, L1 (DBR)': (*a.stored('distances'), l1), 'two distances, KL': (*a.stored('distances'), kl),
           'distances to 4 anchors': (*a.bins(anchors), kl),
           'distances to own and most confusing classes': (*a.bins(torch.cat([a.own, conf[a.own]], 2)), kl)}
    for k in (1, 2, 3, 5): out[f'top-{k}'] = (*a.stored('topk', k, 'uint8'), kl)
    out |= {'top-2, rest spread': (*a.stored('topk', 2, 'uint8'), spread), 'top-2, mean of the rest': (5, a.soft(a.overwritten(rest, 2)), kl),
            'class averages': (cb, a.soft(cz), kl), 'class averages + top-2': (cb+4, a.soft(a.overwritten(cz, 2)), kl),
            'class averages + components, 4 bytes': (cb+4+2*code.basis.numel()/a.views_n, a.soft(cz+residual), kl),
            'image averages': (ib, a.soft(iz), kl), 'image averages + top-2': (ib+4, a.soft(a.overwritten(iz, 2)), kl),
            'class averages + top-2, temperature 1': (cb+4, a.soft(a.overwritten(cz, 2)), cold), 'image averages + top-2, temperature 1': (ib+4, a.soft(a.overwritten(iz, 2)), cold)}
    for k in (1, 2, 4, 8, 16):
        if k<K: out[f'components, {k} byte'+'s'*(k>1)] = (*a.stored('components', k), kl)
    for bits in (2, 4): out[f'soft, {bits} bits'] = (*a.quantised(bits), kl)
    return out | {'soft, one byte': (*a.stored('soft', dtype='uint8', d_max=40.), kl), 'soft': (*a.stored('soft'), kl), 'soft, temperature 1': (*a.stored('soft'), cold)}

def measure(data, teacher, seed, ipc, epochs, flip, arch, recipe, show):
    "Bytes and accuracy of every row with one set and one student"
    syn = random_real(data, ipc, seed)
    a,out = Answers(syn, teacher, label_views(syn, seed, flip=flip), epochs),{}
    how = labels_recipe(syn, epochs, **recipe)
    for name,(b,labels,loss) in progress(list(rows(a).items()), show=show):
        e = evaluate_labels(syn, labels, data, arch, [seed], how, loss, checks=1)
        out[name] = dict(bytes=b, accuracy=e.last[0])
        print(f'{data.name}, seed {seed}: {name:45} {b:7.2f} bytes, {e.mean:.1%}', flush=True)
    return out

@call_parse
def main(
    path:str, # Folder with CIFAR-10 in parquet files
    seeds:int=5, # Sets and students a row
    arch:str='convnet_bn_d2_w32', # Of the students
    runs:str='runs/labels', # Folder for teachers and finished seeds
    out:str='bench/results/labels.json' # Results file
):
    torch.set_num_threads(1)
    runs,rs,seconds,about = Path(runs),[],0.,{}
    runs.mkdir(parents=True, exist_ok=True)
    cifar = lambda: parquet(path, size=16, n_train=20_000, n_test=2_000, device='cpu')
    for name,make,teach,ipc,epochs,flip in (('cifar10', cifar, dict(epochs=16, lr=1e-2), 10, 200, .5),
                                            ('pairs', lambda: cluttered_pairs(30_000, 2_000), dict(epochs=6, lr=1e-2, augment=None), 10, 20, 0.)):
        data = make()
        teacher = kept_teacher(data, runs/f'{name}.safetensors', TEACHER, **teach)
        about[data.name] = dict(teacher_accuracy=accuracy(teacher, data), image_size=data.size, classes=data.n_classes, epochs=epochs)
        print(data, about[data.name], flush=True)
        parts = []
        for s in range(seeds):
            part,t = runs/f'{name}_{s}.json',time.time()
            if not part.exists(): write_json(part, dict(rows=measure(data, teacher, s, ipc, epochs, flip, arch, dict(lr=5e-3, batch_size=50), False), seconds=time.time()-t))
            parts.append(read_json(part))
        seconds += sum(p['seconds'] for p in parts)
        rs += [dict(method='random real', data=data.name, ipc=ipc, arch=arch, labels=k, bytes=o['bytes'], accuracy=[p['rows'][k]['accuracy'] for p in parts], seeds=list(range(seeds)))
               for k,o in parts[0]['rows'].items()]
    write_results(out, rs, seconds, 'python bench/labels.py PATH', data=about, recipe=dict(lr=5e-3, batch_size=50, optimiser='adamw'))
