// Strips of videos and galleries of searches, made smaller; a picture opens in full width.
function buildPictures() {
  for (const [kind, title, note] of [
    ["strip", "Strips", "Frames from left to right, layers from top to bottom; the first row is the annotation."],
    ["gallery", "Galleries", "Retrieval and copy detection: the query first, then the images found for it, best first; right ones framed green, wrong ones red, junk grey. The queries are those that went worst."],
  ]) {
    const pictures = (data.pictures || []).filter((p) => p.kind === kind);
    if (!pictures.length) continue;
    const body = section(kind === "strip" ? "strips" : "galleries", title, note);
    body.append(h("div", { class: "pictures" }, ...pictures.map((p) => h("figure", {},
      h("button", { type: "button", "aria-label": `Enlarge ${p.caption}`, onclick: () => openDialog(p.caption, `${p.width} × ${p.height} pixels of ${p.original}`, h("img", { src: p.source, alt: p.caption })) },
        h("img", { src: p.source, alt: p.caption, loading: "lazy", width: p.width, height: p.height })),
      h("figcaption", {}, soft(p.caption))))));
  }
}
