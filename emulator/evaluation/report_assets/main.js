// Puts the page together, and draws it again when its width or the device's changes.

setUpControls();
setUpCrossovers();
setUpScorecard();
setUpCurves();
for (const [id, data, setUp] of [["spectra-section", DATA.spectra, setUpSpectra], ["maps-section", DATA.fields, setUpMaps]]) {
  byId(id).hidden = !data;
  if (data) setUp();
}
if (DATA.long_run) setUpLongRun();
setUpCost();
redrawAll();
document.documentElement.dataset.drawn = "";

let drawnWidth = document.documentElement.clientWidth;
window.addEventListener("resize", () => {
  if (document.documentElement.clientWidth === drawnWidth) return;
  drawnWidth = document.documentElement.clientWidth;
  requestAnimationFrame(redrawAll);
});
