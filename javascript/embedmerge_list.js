/**
 * A list of which only the entries in sight are in the page, so that tens of thousands of them scroll smoothly.
 *
 * All entries have the same height. Entries in sight are placed with transforms in an element that is as high as the
 * whole list. An entry keeps its element while it stays in sight.
 */
class EmbedMergeList {
    /** Pixels: the narrowest column (none: one column), the height of an entry, and the gap between entries. */
    static LAYOUTS = {
        cards: { width: 200, height: 472, narrow: 472, gap: 10 },
        rows: { width: 0, height: 124, narrow: 236, gap: 0 },
    };
    /** Width of the list in pixels below which rows have the height `narrow`. */
    static NARROW = 620;
    /** Pixels above and below the part in sight in which entries are drawn too. */
    static MARGIN = 400;

    #fill;
    #onShown;
    #box = null;
    #space = null;
    #items = [];
    #layout = "rows";
    /** Key of an item -> its element, for those in sight. */
    #elements = new Map();
    #isScheduled = false;
    #resizing = new ResizeObserver(() => this.#schedule());

    /**
     * @param {(element: HTMLElement, item: object) => void} fill draws an item into its element
     * @param {(items: object[]) => void} onShown called with the items in sight when they have changed
     */
    constructor(fill, onShown) {
        this.#fill = fill;
        this.#onShown = onShown;
    }

    /** Use this element, which scrolls. Its only child is made as high as the whole list. */
    attach(box) {
        this.#box = box;
        this.#space = box.firstElementChild;
        box.addEventListener("scroll", () => this.#schedule(), { passive: true });
        this.#resizing.observe(box);
    }

    /** Show these items, each with a `place` that no other has. layout: `cards` or `rows`. */
    show(items, layout) {
        this.#items = items;
        if (layout !== this.#layout) {
            this.#layout = layout;
            this.#clear();
        }
        this.#draw();
    }

    /** Draw the items in sight again. */
    redraw() {
        for (const { element, item } of this.#elements.values()) {
            this.#fill(element, item);
        }
    }

    scrollToStart() {
        this.#box.scrollTop = 0;
    }

    /** Draw before the next frame, once, however often this is called. */
    #schedule() {
        if (!this.#isScheduled) {
            this.#isScheduled = true;
            requestAnimationFrame(() => {
                this.#isScheduled = false;
                this.#draw();
            });
        }
    }

    #clear() {
        for (const { element } of this.#elements.values()) {
            element.remove();
        }
        this.#elements.clear();
    }

    #draw() {
        const { clientWidth: width, clientHeight: height, scrollTop: top } = this.#box ?? {};
        if (!width) {
            return; // the page is hidden
        }
        const { width: column, height: wide, narrow, gap } = EmbedMergeList.LAYOUTS[this.#layout];
        const columns = column ? Math.max(1, Math.floor((width + gap) / (column + gap))) : 1;
        const step = (width < EmbedMergeList.NARROW ? narrow : wide) + gap;
        const entryWidth = (width - gap * (columns - 1)) / columns;
        this.#space.style.height = `${Math.max(0, Math.ceil(this.#items.length / columns) * step - gap)}px`;
        const visible = Math.max(height, 1);
        const first = Math.max(0, Math.floor((top - EmbedMergeList.MARGIN) / step)) * columns;
        const last = Math.ceil((top + visible + EmbedMergeList.MARGIN) / step) * columns;
        const items = this.#items.slice(first, last);
        const places = new Set(items.map((item) => item.place));
        for (const [place, { element }] of this.#elements) {
            if (!places.has(place)) {
                element.remove();
                this.#elements.delete(place);
            }
        }
        let before = null;
        let hasChanged = false;
        for (const [offset, item] of items.entries()) {
            let known = this.#elements.get(item.place);
            if (!known) {
                known = { element: this.#makeElement(), item };
                this.#elements.set(item.place, known);
            }
            if (known.item !== item || !known.element.firstChild) {
                known.item = item;
                this.#fill(known.element, item);
                hasChanged = true;
            }
            const index = first + offset;
            const { element } = known;
            element.style.width = `${entryWidth}px`;
            element.style.height = `${step - gap}px`;
            const x = (index % columns) * (entryWidth + gap);
            element.style.transform = `translate(${x}px, ${Math.floor(index / columns) * step}px)`;
            element.setAttribute("aria-posinset", String(index + 1));
            element.setAttribute("aria-setsize", String(this.#items.length));
            // In the order of the list, for the keyboard and for screen readers.
            const next = before ? before.nextElementSibling : this.#space.firstElementChild;
            if (next !== element) {
                this.#space.insertBefore(element, next);
                hasChanged = true;
            }
            before = element;
        }
        if (hasChanged) {
            this.#onShown(items);
        }
    }

    #makeElement() {
        const element = document.createElement("div");
        element.className = "embedmerge-entry";
        element.setAttribute("role", "listitem");
        return element;
    }
}
