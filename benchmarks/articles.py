"""What the five articles claim, and by which comparisons each claim is judged (``benchmarks.claims``)."""

from benchmarks.neighbours import NEAR
from benchmarks.verdicts import Claim, Part
from gan_core.toy.training.path_study import MOMENTS, SECOND

EQUAL_SECONDS = {rival: f"{rival} in equal seconds" for rival in ("psp", "e4e")}
"""The sources whose rows compare Style Transformer with a rival after equal seconds instead of equally many images."""
WORLDS = {"digits": ("",), "portraits": ("", f" by {SECOND}"), "shapes": ("", f" by {MOMENTS}")}
"""The worlds of paths, each with how its measures end: those by what named the paths, and those by other judges."""
CURVILINEAR = "CurvilinearGANSpace (Aoshima and Matsubara 2023)"
PTI, STYLE = "pivotal tuning (Roich et al. 2021)", "Style Transformer (Hu et al. 2022)"
PSP, SOAT = "pSp (Richardson et al. 2021)", "SOAT (Chong et al. 2021)"
RECONSTRUCTION, EDITS = ("mse", "lpips", "fid", "swd"), ("fid of edits", "swd of edits")
COST = ("parameters", "seconds_per_picture")


def smallest(measure: str, source: str) -> tuple[Part, ...]:
    """Say that the curvilinear paths of a world have the smallest ``measure``, by all who judge it."""
    return tuple(Part(measure + by, "curvilinear", rival) for by in WORLDS[source] for rival in ("linear", "warped"))


def order_of(method: str, source: str, matters: bool) -> tuple[Part, ...]:
    """Say that the order of a method's edits ``matters``, by 1 % of an edit or more, or doesn't, by all judges."""
    measures = (measure + by for by in WORLDS[source] for measure in ("order", "undo"))
    return tuple(Part(measure, method, limit=1.0, more=matters) for measure in measures)


def beats(rival: str, seconds: bool = False) -> Claim:
    """Say that Style Transformer has better reconstructions and edits than ``rival``, by what its article measures.

    After equal numbers of images it must be smaller and quicker too; or after equal ``seconds`` of training.
    """
    parts = [Part(measure, "style-transformer", rival) for measure in (*RECONSTRUCTION, *EDITS)]
    cost = [Part(measure, "style-transformer", rival, fixed=True) for measure in COST]
    name = f"style_transformer_beats_{rival}"
    if seconds:
        text = f"better reconstructions and edits than {rival} after equally long trainings"
        return Claim(f"{name}_in_equal_seconds", STYLE, text, EQUAL_SECONDS[rival], tuple(parts), unit="images")
    text = f"better reconstructions and edits than {rival}, smaller and quicker"
    return Claim(name, STYLE, text, "encoders", (*parts, *cost), unit="images")


def nearer(method: str, rival: str, *errors: str) -> tuple[Part, ...]:
    """Say that pictures of a method are nearer to what they should be than a rival's, by ``errors`` and identity."""
    return (*(Part(error, method, rival) for error in errors), Part("identity", method, rival, more=True))


def of_tuning(group: str = "") -> tuple[Claim, ...]:
    """Say what pivotal tuning does, of portraits each by itself or, with the prefix ``group``, by one generator."""
    tuned, locality = f"{group}tuned", f"{group}locality"
    of_eight = " (one generator for eight)" if group else ""
    near = [f"{distance:g}" for distance in NEAR]
    within = f"with the locality term, pictures of neighbours ({', '.join(near[:-1])} and {near[-1]} from the pivot)"
    said: dict[str, tuple[str, tuple[Part, ...]]] = {
        "tuning_lowers_distortion": (
            "tuning brings the picture closer to the portrait, by error, LPIPS and identity",
            nearer(tuned, "untuned", "mse", "lpips"),
        ),
        "tuning_keeps_editability": (
            "edits after tuning move attributes at least 0.9 as far as before, and keep 0.9 as much identity",
            tuple(Part(measure, tuned, "untuned", share=0.9, more=True) for measure in ("move", "identity_kept")),
        ),
        "locality_keeps_neighbours": (
            f"{within} change less",
            tuple(Part(f"changed {distance}", locality, tuned) for distance in near),
        ),
        "locality_keeps_quality": (
            f"{within} are of better quality",
            tuple(Part(f"quality {distance}", locality, tuned) for distance in near),
        ),
    }
    return tuple(
        Claim(f"{group.replace(' ', '_')}{name}", PTI, text + of_eight, "tuning", parts)
        for name, (text, parts) in said.items()
    )


def several_outputs(task: str) -> Part:
    """Say that pSp's outputs for one input of a task differ more than its rival's."""
    return Part("diversity", f"psp-{task}", f"pix2pix-{task}", more=True)


CLAIMS = (
    *(
        claim
        for source in WORLDS
        for claim in (
            Claim(
                f"curvilinear_commutes_{source}",
                CURVILINEAR,
                f"edits commute ({source})",
                source,
                order_of("curvilinear", source, matters=False),
            ),
            Claim(
                f"curvilinear_side_effects_{source}",
                CURVILINEAR,
                f"the smallest side effects of linear, warped and curvilinear paths ({source})",
                source,
                smallest("side_effects", source),
            ),
            Claim(
                f"curvilinear_identity_{source}",
                CURVILINEAR,
                f"the smallest identity error of the three ({source})",
                source,
                smallest("identity", source),
            ),
            Claim(
                f"warped_order_matters_{source}",
                CURVILINEAR,
                f"warped edits don't commute ({source})",
                source,
                order_of("warped", source, matters=True),
            ),
        )
    ),
    Claim(
        "curvilinear_reaches_shapes",
        CURVILINEAR,
        "moves attributes that linear paths can't: nearer to the wanted move of each, wherever it starts (shapes)",
        "shapes",
        tuple(Part("reached" + by, "curvilinear", "linear", more=True) for by in WORLDS["shapes"]),
    ),
    *of_tuning(),
    *of_tuning("group "),
    *(beats(rival, seconds) for seconds in (False, True) for rival in EQUAL_SECONDS),
    Claim(
        "reference_edits_differ_little",
        STYLE,
        "edits by different references differ less than the renderer's drawings of what they ask for",
        "encoders",
        (Part("reference_diversity", "style-transformer", limit=1.0),),
        unit="images",
    ),
    Claim(
        "psp_beats_naive_w_plus",
        PSP,
        "a pyramid with a network for each style is nearer to the portrait, by LPIPS and identity, than all styles "
        "from one vector",
        "encoders",
        nearer("psp", "psp-w-plus", "lpips"),
        unit="images",
    ),
    *(
        Claim(
            f"psp_beats_{rival}",
            PSP,
            f"nearer to the portrait, by LPIPS, error and identity, than {name}'s encoder",
            "encoders",
            nearer("psp", rival, "lpips", "mse"),
            unit="images",
        )
        for rival, name in (("alae", "ALAE"), ("idinvert", "in-domain inversion"))
    ),
    Claim(
        "identity_loss_keeps_identity",
        PSP,
        "the loss on identity keeps more of it",
        "encoders",
        (Part("identity", "psp", "psp-without-identity", more=True),),
        unit="images",
    ),
    Claim(
        "psp_needs_no_correspondence",
        PSP,
        "faces are turned to the front nearer to the truth than by pix2pixHD, and more turned ones lose less",
        "translations",
        (
            *nearer("psp-frontalisation", "pix2pix-frontalisation", "lpips"),
            Part("lpips_growth", "psp-frontalisation", "pix2pix-frontalisation"),
        ),
        unit="images",
    ),
    Claim(
        "psp_beats_pix2pix",
        PSP,
        "better pictures of sketches and label maps than by pix2pixHD, by the distance to portraits and to the truth",
        "translations",
        tuple(
            Part(measure, f"psp-{task}", f"pix2pix-{task}")
            for task in ("sketch", "segmentation")
            for measure in ("fid", "lpips")
        ),
        unit="images",
    ),
    Claim(
        "psp_gives_several_outputs",
        PSP,
        "gives several outputs for one sketch or label map, where pix2pixHD gives one",
        "translations",
        (several_outputs("sketch"), several_outputs("segmentation")),
        unit="images",
    ),
    Claim(
        "soat_more_natural",
        SOAT,
        "pictures made of one picture are more natural than SinGAN's: nearer to portraits, and to that one by patches",
        "singan",
        tuple(Part(f"wide {measure}", "soat", "singan") for measure in ("nearest/toy-attr", "sifid/toy-perceptual")),
    ),
    Claim(
        "soat_blends_more_natural",
        SOAT,
        "blends of two pictures are more natural than collages that SinGAN harmonises: nearer to portraits, less seam",
        "singan",
        tuple(
            Part(f"{axis} {measure}", "soat", "singan")
            for axis in ("horizontal", "vertical")
            for measure in ("nearest/toy-attr", "seam")
        ),
    ),
    Claim(
        "soat_needs_no_training",
        SOAT,
        "without training: in less than a thousandth of SinGAN's time a picture",
        "singan",
        (Part("seconds", "soat", "singan", share=1e-3),),
    ),
)  # fmt: skip
