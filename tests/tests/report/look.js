// What a person would notice of the page: what overflows, what can hardly be read, what has no name.
const rgb = (colour) => {
  const found = colour.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/);
  return found && { parts: [1, 2, 3].map((at) => Number(found[at])), alpha: found[4] === undefined ? 1 : Number(found[4]) };
};
const luminance = ({ parts }) => {
  const [r, g, b] = parts.map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour && colour.alpha === 1) return colour;
  }
  return { parts: [255, 255, 255], alpha: 1 };
};
for (const details of document.querySelectorAll('details')) details.open = true;
const texts = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const parent = walker.currentNode.parentElement;
  const name = parent.localName;
  if (walker.currentNode.data.trim() && !['script', 'style'].includes(name) && !(parent.namespaceURI.endsWith('svg') && name !== 'text')) texts.add(parent);
}
const faint = [];
for (const element of texts) {
  const style = getComputedStyle(element);
  const inPicture = element.namespaceURI.endsWith('svg');
  const colour = rgb(inPicture ? style.fill : style.color);
  let below = ground(element);
  if (element.classList.contains('step-number')) below = rgb(getComputedStyle(element.previousElementSibling).fill);
  const [high, low] = [luminance(colour), luminance(below)].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  if (!(ratio >= 4.5)) faint.push(`${element.localName}.${element.getAttribute('class')}: ${ratio.toFixed(2)}`);
}
const page = document.documentElement;
const wide = [...document.querySelectorAll('body *')]
  .filter((element) => !element.closest('svg') && !element.classList.contains('skip') && element.getClientRects().length)
  .filter((element) => element.getBoundingClientRect().right > page.clientWidth + 0.5 || element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== 'inline')
  .map((element) => `${element.localName}.${element.className}`);
const headings = [...document.querySelectorAll('h1, h2, h3, h4')].map((heading) => Number(heading.localName[1]));
return {
  overflow: page.scrollWidth - page.clientWidth,
  wide,
  texts: texts.size,
  faint: [...new Set(faint)],
  ground: getComputedStyle(document.body).backgroundColor,
  skipped: headings.filter((level, at) => level > (headings[at - 1] ?? 0) + 1),
  pictures: [...document.querySelectorAll('svg[role=img]')].filter((picture) => !picture.querySelector('title') && !picture.getAttribute('aria-label')).length,
  ids: [...document.querySelectorAll('[id]')].map((element) => element.id).filter((id, at, all) => all.indexOf(id) !== at),
  harmed: window.harmed ?? 0,
  scripts: document.scripts.length,
  fetched: performance.getEntriesByType('resource').map((entry) => entry.name),
};
