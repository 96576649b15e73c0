(() => {
  "use strict";
  const read = (element) => JSON.parse(element.textContent);

  // DataTables looks for this class; everything of our own follows the media query by itself.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", follow);
  follow();

  const draw = async (figure) => {
    const live = figure.querySelector(".live");
    live.hidden = false;
    const options = { actions: false, renderer: "svg", tooltip: { theme: "page" } };
    await vegaEmbed(live.firstElementChild, read(figure.querySelector("script")), options);
    figure.classList.add("is-live");
  };
  if (window.vegaEmbed) document.querySelectorAll("figure.chart").forEach(draw);

  const source = document.getElementById("itables");
  const fill = async () => {
    const address = URL.createObjectURL(new Blob([read(source)], { type: "application/javascript" }));
    const { ITable } = await import(address);
    URL.revokeObjectURL(address);
    document.querySelectorAll("script[data-table]").forEach((script) => {
      const region = script.parentElement;
      new ITable(document.getElementById(script.dataset.table), read(script));
      // Two tables would otherwise have two landmarks of the same name.
      region.querySelectorAll("nav").forEach((pages) => pages.setAttribute("aria-label", `Pages: ${region.dataset.title}`));
    });
  };
  if (source) fill();
})();
