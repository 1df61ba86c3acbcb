// Hides the operations that do not hold every word of the filter. Without it the page is whole.
"use strict";

const input = document.getElementById("filter");
const operations = [...document.querySelectorAll(".operation")].map((article) => ({
  article,
  link: document.querySelector(`[data-for="${article.id}"]`),
  text: article.textContent.toLowerCase(),
}));
const groups = [...document.querySelectorAll(".group")];

input.closest(".filter").hidden = false;
input.addEventListener("input", () => {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { article, link, text } of operations) {
    article.hidden = link.hidden = !words.every((word) => text.includes(word));
  }
  for (const group of groups) {
    group.hidden = group.querySelector(".operation:not([hidden])") === null;
  }
});
