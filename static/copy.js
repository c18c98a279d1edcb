/** Buttons and texts, for eyes and for readers of the screen. */
import { fill, words } from "./words.js";

/** What a button does, and for readers of the screen, of what. @param {HTMLElement} button @param {string} text */
export function label(button, text) {
	write(button, text);
	const { name } = button.closest("li")?.dataset ?? {};
	if (name) button.setAttribute("aria-label", fill(words.of, { what: text, name }));
}

/** Not again what is there already: that would be read aloud again. @param {HTMLElement} element @param {string} text */
export function write(element, text) {
	if (element.textContent !== text) element.textContent = text;
}

/** @param {string} text @param {HTMLElement} button which says that it is done */
export async function copy(text, button) {
	try {
		await navigator.clipboard.writeText(text);
	} catch {
		const field = document.createElement("textarea"); // plain HTTP
		field.value = text;
		button.after(field);
		field.select();
		document.execCommand("copy");
		field.remove();
		button.focus();
	}
	const before = (button.dataset.label ??= button.textContent ?? "");
	label(button, words.copied);
	setTimeout(() => label(button, before), 1500);
}
