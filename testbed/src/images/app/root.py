"""ROOT from Python: imports it, has its interpreter started (which the import alone does not), then has it run a macro."""

import ROOT

ROOT.gROOT.SetBatch(True)
print("ready", flush=True)

ROOT.gROOT.ProcessLine(".x /opt/app/fill.C")
