"""ROOT from Python: imports it, then has its interpreter run a macro."""

import ROOT

print("ready", flush=True)

ROOT.gROOT.SetBatch(True)
ROOT.gROOT.ProcessLine(".x /opt/app/fill.C")
