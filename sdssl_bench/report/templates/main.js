// Builds the sections, in reading order, and draws them.
function buildTheme() {
  const button = byId("theme");
  const themes = ["system", "light", "dark"];
  let now = 0;
  button.addEventListener("click", () => {
    now = (now + 1) % themes.length;
    if (now) document.documentElement.dataset.theme = themes[now];
    else delete document.documentElement.dataset.theme;
    button.textContent = `Theme: ${themes[now]}`;
  });
}
buildTheme();
buildHatching();
buildFilters();
buildLeaderboard();
buildCurves();
buildDescriptions();
buildMatrices();
buildMaps();
buildPictures();
buildCost();
redraw();
document.documentElement.dataset.ready = "yes";
