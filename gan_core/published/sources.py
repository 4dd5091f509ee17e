"""Sources of published checkpoints by name: what each is, under which terms, and where it lies.

Weights are never part of this project; ``gan_core.published.fetching`` downloads them.
"""

from dataclasses import dataclass

from gan_core.errors import CheckpointError, near_matches

NVIDIA = "NVIDIA Source Code License: non-commercial"
FFHQ = "code MIT; trained on FFHQ and NVIDIA's network: non-commercial"
FACES = "code MIT; trained on faces collected for research: non-commercial"
UNSTATED = "no licence stated: all rights reserved"
ADA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained"
DRIVE = "https://drive.google.com/file/d/"
HUB = "hf://"
E4E = "https://raw.githubusercontent.com/omertov/encoder4editing/main/editings"
TORCHVISION = "BSD-3-Clause; trained on ImageNet: non-commercial research"


@dataclass(frozen=True)
class Source:
    """A published file; ``page`` is where a person finds it.

    ``url`` is an address that sends the file itself, or ``hf://owner/name/path`` of a file on Hugging Face's hub; it is
    empty for files on Google Drive, whose ``page`` has the file's id, and for those that only a person can download.
    ``sha256`` and ``md5`` are those that the publisher states, often only the first digits (in the file's name), or
    those that projects using the file agree on. They are empty if unknown.
    """

    file: str
    what: str
    licence: str
    page: str
    url: str = ""
    sha256: str = ""
    md5: str = ""

    @property
    def way(self) -> str:
        """How a program gets it: ``"url"``, ``"hub"`` or ``"drive"``; ``"hand"`` if none can."""
        if self.url:
            return "hub" if self.url.startswith(HUB) else "url"
        return "drive" if self.page.startswith(DRIVE) else "hand"


SOURCES: dict[str, Source] = {
    **{
        f"stylegan2-ada-{name}": Source(f"{name}.pkl", what, NVIDIA, ADA, f"{ADA}/{name}.pkl")
        for name, what in {
            "ffhq": "StyleGAN2, faces, 1024 px",
            "metfaces": "StyleGAN2, painted faces, 1024 px",
            "afhqcat": "StyleGAN2, cats, 512 px",
            "afhqdog": "StyleGAN2, dogs, 512 px",
            "afhqwild": "StyleGAN2, wild animals, 512 px",
            "cifar10": "StyleGAN2, ten classes, 32 px",
        }.items()
    },
    "stylegan2-ffhq": Source(
        "stylegan2-ffhq-config-f.pt",
        "StyleGAN2, faces, 1024 px, rosinality layout",
        NVIDIA,
        f"{DRIVE}1EM87UquaoQmk17Q8d5kYIAHqu0dkYqdT",
    ),
    "psp-ffhq": Source(
        "psp_ffhq_encode.pt", "pSp inversion, with its generator", FFHQ, f"{DRIVE}1bMTNWkh5LArlaWSc_wa8VKyq2V42T2z0"
    ),
    "psp-frontalize": Source(
        "psp_ffhq_frontalization.pt", "pSp frontalisation", FFHQ, f"{DRIVE}1_S4THAzXb-97DbpXmanjHtXRyKxqjARv"
    ),
    "psp-sketch": Source(
        "psp_celebs_sketch_to_face.pt", "pSp sketch to face", FFHQ, f"{DRIVE}1lB7wk7MwtdxL-LL4Z_T76DuCfk00aSXA"
    ),
    "psp-segmentation": Source(
        "psp_celebs_seg_to_face.pt", "pSp segmentation to face", FFHQ, f"{DRIVE}1VpEKc6E6yG3xhYuZ0cq8D2_1CbT0Dstz"
    ),
    "psp-super-resolution": Source(
        "psp_celebs_super_resolution.pt", "pSp super-resolution", FFHQ, f"{DRIVE}1ZpmSXBpJ9pFEov6-jjQstAlfYbkebECu"
    ),
    "psp-toonify": Source("psp_ffhq_toonify.pt", "pSp toonify", FFHQ, f"{DRIVE}1YKoiVuFaqdvzDP5CZaqa3k5phL-VDmyz"),
    "stylegan2-toonify": Source(
        "stylegan2_ffhq_toonify.pt",
        "StyleGAN2, cartoon faces, 1024 px, rosinality layout",
        NVIDIA,
        f"{DRIVE}1r3XVCt_WYUKFZFxhNH-xO2dTtF6B5szu",
    ),
    "e4e-ffhq": Source(
        "e4e_ffhq_encode.pt", "e4e inversion, with its generator", FFHQ, f"{DRIVE}1cUv_reLE6k3604or78EranS7XzuVMWeO"
    ),
    "e4e-cars": Source("e4e_cars_encode.pt", "e4e for cars", FFHQ, f"{DRIVE}17faPqBce2m1AQeLCLHUVXaDfxMRU2QcV"),
    "e4e-horse": Source("e4e_horse_encode.pt", "e4e for horses", FFHQ, f"{DRIVE}1TkLLnuX86B_BMo2ocYD0kX9kWh53rUVX"),
    "e4e-church": Source("e4e_church_encode.pt", "e4e for churches", FFHQ, f"{DRIVE}1-L0ZdnQLwtdy6-A_Ccgq5uNJGTqE7qBa"),
    "e4e-ffhq-pti": Source(
        "e4e_ffhq_encode_pti.pt",
        "e4e inversion, as PTI links it",
        FFHQ,
        f"{DRIVE}1ALC5CLA89Ouw40TwvxcwebhzWXM5YSCm",
    ),
    "style-transformer": Source(
        "style_transformer_ffhq.pt",
        "Style Transformer, with its generator",
        UNSTATED,
        f"{DRIVE}1XJWP712o-wWZrfzXJ07vc3dHjJF8CanT",
    ),
    "style-transformer-cars": Source(
        "style_transformer_cars.pt",
        "Style Transformer for cars",
        UNSTATED,
        f"{DRIVE}1ri10_CWq42IzzIQ4ZQAxNX7BLsCztd92",
    ),
    "arcface": Source(
        "model_ir_se50.pth",
        "ArcFace IR-SE-50",
        FACES,
        f"{DRIVE}1KW7bjndL3QG3sxBbZxreGHigcCCpsDgn",
        sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
    ),
    "curricularface": Source(
        "CurricularFace_Backbone.pth", "CurricularFace IR-101", FACES, f"{DRIVE}1f4IwVa2-Bn9vWLwB-bUwm53U_MlvinAj"
    ),
    "moco": Source(
        "moco_v2_800ep_pretrain.pth.tar",
        "MoCo v2 ResNet-50",
        "CC BY-NC 4.0: non-commercial",
        "https://github.com/facebookresearch/moco",
        "https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",
        md5="a04e12f8",
    ),
    "inception": Source(
        "pt_inception-2015-12-05-6726825d.pth",
        "Inception for FID",
        "Apache-2.0",
        "https://github.com/mseitzer/pytorch-fid",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d",
    ),
    **{
        name: Source(
            file, what, TORCHVISION, "https://pytorch.org/vision", f"https://download.pytorch.org/models/{file}", digits
        )
        for name, file, what, digits in (
            ("lpips-alex", "alexnet-owt-7be5be79.pth", "AlexNet trunk of LPIPS", "7be5be79"),
            ("lpips-vgg", "vgg16-397923af.pth", "VGG-16 trunk of LPIPS", "397923af"),
            ("lpips-squeeze", "squeezenet1_1-b8a52dc0.pth", "SqueezeNet trunk of LPIPS", "b8a52dc0"),
        )
    },
    "fairface": Source(
        "fairface_alldata_4race_20191111.pt",
        "FairFace: gender and age",
        "CC BY 4.0",
        "https://github.com/dchen236/FairFace",
    ),
    "hopenet": Source(
        "hopenet_alpha2.pkl",
        "Hopenet: yaw, pitch, roll",
        "code Apache-2.0; trained on 300W-LP",
        "https://github.com/natanielruiz/deep-head-pose",
    ),
    "celeba-5": Source(
        "eval_predictor.pth.tar",
        "Talk-to-Edit: five CelebA attributes",
        "trained on CelebA: non-commercial research",
        "https://github.com/yumingj/Talk-to-Edit",
    ),
    "biggan-deep-128": Source(
        "biggan-deep-128-pytorch_model.bin",
        "BigGAN-deep, ImageNet, 128 px",
        "code MIT; trained on ImageNet: non-commercial research",
        "https://github.com/huggingface/pytorch-pretrained-BigGAN",
        "https://s3.amazonaws.com/models.huggingface.co/biggan/biggan-deep-128-pytorch_model.bin",
    ),
    **{
        f"direction-{name}": Source(
            f"{name}.pt",
            f"InterFaceGAN direction {name}, StyleGAN2 FFHQ",
            "code MIT; made from NVIDIA's network: non-commercial",
            "https://github.com/omertov/encoder4editing",
            f"{E4E}/interfacegan_directions/{name}.pt",
        )
        for name in ("age", "smile", "pose")
    },
    "ganspace-ffhq": Source(
        "ffhq_pca.pt",
        "GANSpace components, StyleGAN2 FFHQ",
        "code MIT; made from NVIDIA's network: non-commercial",
        "https://github.com/omertov/encoder4editing",
        f"{E4E}/ganspace_pca/ffhq_pca.pt",
    ),
}


def find_source(name: str) -> Source:
    """Return the source ``name``, or that of an address ``hf://owner/name/path`` on Hugging Face's hub.

    Raises ``CheckpointError`` with near matches for an unknown name, and for an address without a file.
    """
    if name.startswith(HUB):
        owner, _, rest = name.removeprefix(HUB).partition("/")
        repository, _, path = rest.partition("/")
        file = f"{owner}/{repository}/{path}"  # many repositories have a model.safetensors
        if any(part in ("", ".", "..") for part in file.split("/")):
            raise CheckpointError(f"{name} names no file: write {HUB}OWNER/NAME/FILE")
        page = f"https://huggingface.co/{owner}/{repository}"
        return Source(file, "a file of the hub", f"not known here: see {page}", page, name)
    if name not in SOURCES:
        raise CheckpointError(f"no source is called {name!r}{near_matches(name, SOURCES)}")
    return SOURCES[name]
