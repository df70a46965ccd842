// As ROOT's tutorial hsimple: fills histograms, a profile and an ntuple with random numbers, writes them into a file, and
// fits one.
#include <TF1.h>
#include <TFile.h>
#include <TH1F.h>
#include <TH2F.h>
#include <TNtuple.h>
#include <TProfile.h>
#include <TRandom3.h>
#include <iostream>

void fill()
{
   TFile file("/tmp/fill.root", "RECREATE");
   TH1F px("px", "px", 100, -4, 4);
   TH2F pxpy("pxpy", "py and px", 40, -4, 4, 40, -4, 4);
   TProfile prof("prof", "pz and px", 100, -4, 4, 0, 20);
   TNtuple ntuple("ntuple", "all", "px:py:pz:random:i");
   TRandom3 random(1);
   for (int i = 0; i < 25000; i++) {
      double x, y;
      random.Rannor(x, y);
      px.Fill(x);
      pxpy.Fill(x, y);
      prof.Fill(x, x * x + y * y);
      ntuple.Fill(x, y, x * x + y * y, random.Rndm(), i);
   }
   px.Fit("gaus", "Q0");
   std::cout << "result " << px.GetFunction("gaus")->GetParameter(2) << std::endl;
   file.Write();
}
