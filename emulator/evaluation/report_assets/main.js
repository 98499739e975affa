// Puts the page together, and draws it again when its width or the device's changes.

setUpControls();
setUpCrossovers();
setUpScorecard();
setUpCurves();
if (DATA.fields) setUpMaps();
if (DATA.fields && DATA.fields.spectra) setUpSpectra();
document.querySelectorAll(".needs-fields").forEach((section) => {
  section.hidden = !DATA.fields || (section.querySelector("#spectra") !== null && !DATA.fields.spectra);
});
setUpCost();
redrawAll();
document.documentElement.dataset.drawn = "";

let drawnWidth = document.documentElement.clientWidth;
window.addEventListener("resize", () => {
  if (document.documentElement.clientWidth === drawnWidth) return;
  drawnWidth = document.documentElement.clientWidth;
  requestAnimationFrame(redrawAll);
});
