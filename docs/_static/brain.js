// A brain that turns is loaded when it is asked for (browsers load lazy frames of files at once).
// Where WebGL is missing it cannot be drawn; its still picture is on the page already.
window.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll("figure.brain details")) {
    box.addEventListener("toggle", () => {
      const frame = box.querySelector("iframe:not([src])");
      if (!frame) return;
      if (document.createElement("canvas").getContext("webgl")) {
        frame.src = frame.dataset.src;
        return;
      }
      const words = document.createElement("p");
      words.textContent = "This browser draws no WebGL. The picture above shows the same values.";
      frame.replaceWith(words);
    });
  }
});
