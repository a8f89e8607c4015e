"""PEFT and transformers load what dsft wrote.

python scripts/parity/adapters.py BASE DSFT_ADAPTER [DSFT_MERGED]

Loads an adapter folder that dsft wrote with PEFT (every key must find its place, B must not stay zero), and, where a merged folder is given, compares its
logits with base + adapter and its weights with merge_and_unload.
"""
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    warnings.simplefilter("error", category=UserWarning)  # PEFT only warns of missing and unexpected keys
    warnings.filterwarnings("default", message=".*(tied layer is part of the adapter|no longer tied after merging).*")
    base, adapter, merged = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
    saved = load_file(f"{adapter}/adapter_model.safetensors")
    loaded = {name.replace(".default", "").replace("modules_to_save.", ""): value for name, value in model.named_parameters()}
    differing = [name for name, value in saved.items() if name not in loaded or not torch.equal(loaded[name].float(), value.float())]
    print(f"adapter tensors: {len(saved)}, not loaded as written: {len(differing)} {differing[:3]}")
    ok = not differing
    torch.manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (2, 16))
    alone = AutoModelForCausalLM.from_pretrained(adapter, dtype=torch.float32).eval()  # the folder by itself: transformers finds the base
    AutoTokenizer.from_pretrained(adapter)
    with torch.no_grad():
        gap = (model(ids).logits - alone(ids).logits).abs().max().item()
    print(f"the folder by itself: largest logit difference {gap:.2e}")
    ok = ok and gap < 1e-5
    if merged:
        other = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
        with torch.no_grad():
            gap = (model(ids).logits - other(ids).logits).abs().max().item()
            ours = dict(other.state_dict())
            theirs = model.merge_and_unload().state_dict()
        weight_gap = max((ours[name].float() - value.float()).abs().max().item() for name, value in theirs.items())
        print(f"merged: largest logit difference {gap:.2e}, largest weight difference {weight_gap:.2e}")
        ok = ok and gap < 1e-4
    print("PASS" if ok else "FAIL")
    sys.exit(0 if ok else 1)


main()
