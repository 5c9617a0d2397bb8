/**
 * The page Library. The script searches, sorts and filters the embeddings, remembers which are ticked, and requests
 * what is in sight: entries, their pictures, and how they fit. It follows the progress of a rebuild.
 *
 * The server sends all files in short form once; entries are drawn by the server (lib_embedmerge/ui/views). An entry is
 * a concept, an embedding with its versions for other models, or one file. The script asks the server by clicking hidden
 * buttons, as embedmerge.js does.
 */
class EmbedMergeLibrary {
    /** Number of fits in one request: few enough that an answer comes soon even if none is cached. */
    static BATCH = 60;
    /** Number of pictures in one request. */
    static PICTURES = 12;
    /** Number of drawn entries and pictures that are kept. */
    static KEPT = 1500;
    /** Milliseconds between two checks of the page, and between two requests for the progress of a rebuild. */
    static CHECK_INTERVAL = 300;
    static JOB_INTERVAL = 1000;
    /** Milliseconds after which entries that came into sight are requested. */
    static PAUSE = 60;
    /** Where the browser keeps what the user chose here. */
    static STORE = "embedmerge-library";
    /** Names of ticked embeddings that the bar shows. */
    static NAMES = 8;
    /** How good a fit is, the best first. A concept fits as well as the best of its files. */
    static TONES = ["good", "unmeasured", "quiet", "warning", "bad"];

    /**
     * Values for events: the ticked embeddings in JSON, the same with their versions, the argument of a button in a
     * message, the rebuild's id.
     */
    tickedFiles = "[]";
    tickedWithVersions = "[]";
    order = "";
    jobId = "";

    #fits = new EmbedMergeQuestion("fit", "fits", () => this.#showFits());
    #drawings = new EmbedMergeQuestion("draw", "entries", () => this.#showEntries());
    #pictures = new EmbedMergeQuestion("picture", "pictures", () => this.#showPictures());
    /** Files whose fits are requested. */
    #requestedFiles = [];
    #list = null;
    #data = null;
    #files = [];
    #byPlace = new Map();
    /** All entries, those that the filters leave, and those in sight. */
    #entries = [];
    #shown = [];
    #inSight = [];
    /** Place of an entry -> its element, and the HTML that the server drew it as; `isOld` if that may have changed. */
    #drawn = new Map();
    /** The entries that are requested, and the state that they are to be drawn in. */
    #requested = { places: [], state: 0 };
    /** Whether the server knew none of the entries that were requested last. */
    #knewNone = false;
    /** Grows when the list or the model changes. */
    #state = 0;
    /** Number of a picture -> its address; empty if it cannot be shown. */
    #sources = new Map();
    #tickedPlaces = new Set();
    /** The place of a file that is to be ticked once it is in the list. */
    #improved = "";
    #filters = { words: "", fit: "", effect: "", family: "", model: "", recipe: "", rating: "", sort: "name" };
    #isReversed = false;
    #layout = "cards";
    #status = "";
    /** The notes that the script has written into the box. */
    #shownNotes = "";
    #jobAskedAt = 0;
    #endedJob = "";
    #isStale = false;
    /** Whether the last request for fits had no answer, because there is no model. */
    #hasNoFits = false;
    #wasShown = false;
    #timer = 0;
    #listingObserver = new MutationObserver(() => this.#readListing());
    #listing = null;

    constructor() {
        document.addEventListener("input", (event) => this.#onEdit(event));
        document.addEventListener("change", (event) => this.#onEdit(event));
        // In the capture phase, because gradio's own handlers replace the button of a page that was clicked.
        document.addEventListener("click", (event) => this.#onClick(event), true);
        setInterval(() => this.#check(), EmbedMergeLibrary.CHECK_INTERVAL);
        this.#restoreChoices();
    }

    /** Called by gradio when it requests fits. Returns the number of the question, then a line with the files. */
    takeFitQuestion() {
        this.#requestedFiles = this.#listUnmeasured(EmbedMergeLibrary.BATCH);
        const places = this.#requestedFiles.map((file) => file.place);
        return `${this.#fits.takeNumber()}\n${JSON.stringify(places)}`;
    }

    /** Called by gradio when it requests entries. Returns the number of the question, then a line with their files. */
    takeEntryQuestion() {
        const entries = this.#listUndrawn();
        this.#requested = { places: entries.map(({ place }) => place), state: this.#state };
        return `${this.#drawings.takeNumber()}\n${JSON.stringify(entries.map((entry) => this.#listPlaces(entry)))}`;
    }

    /** Called by gradio when it requests pictures. Returns the same as `takeEntryQuestion`. */
    takePictureQuestion() {
        const entries = this.#listUnpictured().slice(0, EmbedMergeLibrary.PICTURES);
        return `${this.#pictures.takeNumber()}\n${JSON.stringify(entries.map((entry) => this.#listPlaces(entry)))}`;
    }

    /** Called by gradio when it saves notes. Returns JSON: the notes in the box before the edit, then the files. */
    takeNotesMessage() {
        return JSON.stringify([this.#shownNotes, ...JSON.parse(this.tickedFiles)]);
    }

    /** JSON for gradio when it makes pictures: for each ticked entry its place, and that of its file that fits best. */
    get tickedPairs() {
        const ticked = this.#entries.filter((entry) => this.#tickedPlaces.has(entry.place));
        return JSON.stringify(ticked.map((entry) => [entry.place, this.#findBest(entry).place]));
    }

    /** JSON for gradio when it keeps results of a job: the id of the job, then the numbers of the ticked results. */
    get tickedResults() {
        const boxes = document.querySelectorAll(
            `[data-embedmerge-ended="${CSS.escape(this.order)}"] .embedmerge-chosen-result:checked`,
        );
        return JSON.stringify([this.order, ...[...boxes].map((box) => box.dataset.embedmergeResult)]);
    }

    /** Tick one file, and show the section that compresses, ports and repairs. place: of the file. */
    improve(place) {
        this.#improved = place;
        [...document.querySelectorAll(EmbedMerge.TABS)].find((tab) => tab.textContent.trim() === "Library")?.click();
        this.#tickImproved();
    }

    /** Tick the file that is to be improved, if the list has it yet. Versions for other models are only in the list of files. */
    #tickImproved() {
        const file = this.#byPlace.get(this.#improved);
        if (!file) {
            return;
        }
        this.#improved = "";
        if (!this.#entries.some((entry) => entry.place === file.place)) {
            this.#chooseLayout("files");
        }
        this.#tickedPlaces = new Set([file.place]);
        this.#list?.redraw();
        this.#updateTicked();
        setTimeout(() => this.#openAccordion("optimising"), EmbedMergeLibrary.CHECK_INTERVAL); // once the page is shown
    }

    /** List the library again, because a job has changed what the entries show. */
    listAgain() {
        this.#isStale = true;
    }

    /** The names of the entries that the filters leave, in order. */
    listShownNames() {
        return this.#shown.map((entry) => entry.name);
    }

    #onEdit(event) {
        const target = event.target;
        const filter = target.closest?.("#embedmerge_library [data-embedmerge-filter]");
        if (filter) {
            this.#filters[filter.dataset.embedmergeFilter] = filter.value;
            this.#storeChoices();
            this.#arrange();
            this.#list?.scrollToStart();
        } else if (target.matches?.("#embedmerge_cards .embedmerge-every")) {
            for (const entry of this.#shown) {
                this.#tick(entry, target.checked);
            }
            this.#list.redraw();
            this.#updateTicked();
        } else if (target.matches?.("#embedmerge_cards .embedmerge-chosen")) {
            const place = target.closest(".embedmerge-entry").dataset.embedmergePlace;
            this.#tick({ place }, target.checked);
            this.#updateTicked();
        }
    }

    #onClick(event) {
        if (event.target.closest?.(EmbedMerge.TABS)) {
            this.#wasShown = false; // updates the list even if no check sees the page hidden
        }
        const element = event.target.closest?.("#embedmerge_library [data-embedmerge-action]");
        const data = element?.dataset ?? {};
        const actions = {
            order: () => {
                this.order = data.embedmergeOrder;
                this.#press(data.embedmergePress);
            },
            layout: () => this.#chooseLayout(data.embedmergeLayout),
            reverse: () => {
                this.#isReversed = !this.#isReversed;
                this.#storeChoices();
                this.#arrange();
            },
            use: () => this.#use(element, data.embedmergePlace),
            untick: () => {
                this.#tickedPlaces.clear();
                this.#list.redraw();
                this.#updateTicked();
            },
            "remake-ticked": () => {
                this.order = this.tickedFiles;
                this.#press("remake");
            },
            "make-picture": () => {
                this.#tickedPlaces.clear();
                this.#tick({ place: data.embedmergePlace }, true);
                this.#list.redraw();
                this.#updateTicked();
                this.#openAccordion("previewing");
            },
            "set-up-grid": () => this.#press("set_up_grid"),
            "open-accordion": () => this.#openAccordion(data.embedmergeAccordion),
            "ask-delete": () => this.#askToDelete(),
            "agree-delete": () => {
                this.#setAsking(false);
                this.#press("delete");
            },
            "keep-ticked": () => this.#setAsking(false),
        };
        actions[data.embedmergeAction]?.();
    }

    /** While the page is visible, keep the list, the fits and the progress of a rebuild up to date. */
    #check() {
        const box = document.querySelector("#embedmerge_cards .embedmerge-list");
        const isShown = Boolean(box?.offsetParent);
        if (isShown && !this.#wasShown) {
            this.#isStale = true;
            this.#press("models");
            this.#forgetFits(); // a setting may have changed them, and gradio 4 does not redraw an unchanged list
        }
        this.#wasShown = isShown;
        if (!isShown) {
            return;
        }
        if (!this.#list) {
            this.#list = new EmbedMergeList(
                (element, entry) => this.#fill(element, entry), (entries) => this.#onShown(entries),
            );
            this.#list.attach(box);
            this.#showChoices();
        }
        const listing = document.querySelector("#embedmerge_shelf");
        if (listing !== this.#listing) {
            this.#listing = listing;
            this.#listingObserver.observe(listing, { childList: true, subtree: true });
            this.#readListing();
        }
        this.#followJob();
        if (this.#isStale && !listing.querySelector(".pending")) { // gradio drops a click while an event is running
            this.#isStale = false;
            this.#press("shelve");
        }
        // Only the text of the view: gradio 4 writes into the element how long the next answer takes.
        const status = document.querySelector("#embedmerge_status .embedmerge-view")?.textContent ?? this.#status;
        if (status !== this.#status) {
            this.#status = status;
            this.#forgetFits();
        }
        this.#askForSight();
        // Not while an answer is awaited: it would count as out of date, and a slow server would never fill in a fit.
        if (!this.#hasNoFits && !this.#fits.isPending && this.#listUnmeasured(1).length > 0) {
            this.#fits.ask();
        }
    }

    /** Request the progress of a rebuild while it runs, and the list when it has ended. */
    #followJob() {
        const { embedmergeJob: running, embedmergeEnded: ended } =
            document.querySelector("#embedmerge_job .embedmerge-job")?.dataset ?? {};
        if (running && Date.now() - this.#jobAskedAt > EmbedMergeLibrary.JOB_INTERVAL) {
            this.#jobAskedAt = Date.now();
            this.jobId = running;
            this.#press("watch");
        }
        if (ended && ended !== this.#endedJob) {
            this.#endedJob = ended;
            this.#isStale = true;
        }
    }

    /** Read a new list of files. Fits that are known stay until they are measured again. */
    #readListing() {
        const data = document.querySelector("#embedmerge_shelf .embedmerge-data");
        if (!data || data === this.#data) {
            return;
        }
        this.#data = data;
        const { files, families, models, tools } = JSON.parse(data.textContent);
        const before = this.#byPlace;
        this.#files = files.map((values) => this.#readFile(values, families, models, tools));
        for (const file of this.#files) {
            const { fit, status, tone, rating, effect, band, isUsable } = before.get(file.place) ?? {};
            if (isUsable && file.isUsable) {
                Object.assign(file, { fit, status, tone, rating, effect, band });
            }
        }
        this.#byPlace = new Map(this.#files.map((file) => [file.place, file]));
        this.#setNoFits(false);
        this.#outdateEntries();
        this.#offer("family", families);
        this.#offer("model", models);
        this.#group();
    }

    /** A file from its values in the order of `_encode_files` in ui/views/shelf_view.py. */
    #readFile([place, name, head, flags, count, family, model, tool, date, recipe, notes, more], families, models, tools) {
        const stem = place.slice(place.lastIndexOf("/") + 1).replace(/\.[^.]*$/, "");
        const isUsable = Boolean(flags & 1);
        return {
            place, head, count, date, recipe, notes, more,
            rating: 0,
            effect: "",
            band: "",
            name: name || stem,
            family: families[family],
            model: models[model],
            tool: tools[tool],
            hasRecipe: Boolean(flags & 2),
            isCut: Boolean(flags & 4),
            isUsable,
            status: isUsable ? this.#readWord("unmeasured") : this.#readWord("unusable"),
            tone: isUsable ? "unmeasured" : "bad",
            fit: null,
            isMeasured: false,
            searched: null,
        };
    }

    /** Make the entries: one for each concept, or one for each file. */
    #group() {
        const isByFile = this.#layout === "files";
        const groups = new Map();
        for (const [index, file] of this.#files.entries()) {
            const head = isByFile ? index : file.head;
            if (!groups.has(head)) {
                groups.set(head, []);
            }
            groups.get(head).push(file);
        }
        this.#entries = [...groups].map(([index, files]) => {
            const head = this.#files[index];
            return { place: head.place, name: head.name, head, files: [head, ...files.filter((file) => file !== head)] };
        });
        const places = new Set(this.#entries.map((entry) => entry.place));
        for (const place of this.#tickedPlaces) {
            if (!places.has(place)) {
                this.#tickedPlaces.delete(place);
            }
        }
        this.#arrange();
        this.#tickImproved();
    }

    /** Filter and sort the entries, and show them. */
    #arrange() {
        const { words, fit, effect, family, model, recipe, rating, sort } = this.#filters;
        const searched = words.toLowerCase().split(/\s+/).filter(Boolean);
        const isWanted = (entry) =>
            (!fit || this.#findBest(entry).status === fit)
            && (!effect || this.#findBand(entry) === effect)
            && (!family || entry.files.some((file) => file.family === family))
            && (!model || entry.files.some((file) => file.model === model))
            && (!rating || (rating === "0" ? !this.#findRating(entry) : this.#findRating(entry) >= Number(rating)))
            && (!recipe || entry.head.hasRecipe === (recipe === "yes"))
            && (!searched.length || this.#hasWords(entry, searched));
        this.#shown = this.#entries.filter(isWanted);
        this.#sort(sort);
        this.#list?.show(this.#shown, this.#layout === "cards" ? "cards" : "rows");
        const total = document.querySelector("#embedmerge_cards .embedmerge-total");
        if (total) {
            const all = this.#formatCount(this.#entries.length, this.#layout === "files" ? "file" : "embedding");
            const isAll = this.#shown.length === this.#entries.length;
            total.textContent = isAll ? all : `${this.#formatNumber(this.#shown.length)} of ${all}`;
        }
        this.#updateTicked();
    }

    #hasWords(entry, words) {
        const texts = entry.files.map((file) => {
            file.searched ??= [file.place, file.name, file.family, file.model, file.tool, file.recipe, file.notes, file.more]
                .join(" ").toLowerCase();
            return file.searched;
        });
        return words.every((word) => texts.some((text) => text.includes(word)));
    }

    /** Sort what is shown. The server lists files by name; entries without a value come last in either order. */
    #sort(by) {
        const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
        const keys = {
            date: (entry) => this.#makeDateKey(entry.head.date),
            model: (entry) => entry.head.model,
            fit: (entry) => {
                const best = this.#findBest(entry);
                return best.fit || !best.isUsable ? `${EmbedMergeLibrary.TONES.indexOf(best.tone)} ${best.status}` : "";
            },
            rating: (entry) => (this.#findRating(entry) ? String(5 - this.#findRating(entry)) : ""),
            effect: (entry) => this.#findMeasured(entry)?.effect.padStart(12, "0") ?? "",
            count: (entry) => (entry.head.count ? String(entry.head.count).padStart(6, "0") : ""),
        };
        if (!(by in keys)) {
            if (this.#isReversed) {
                this.#shown.reverse();
            }
            return;
        }
        const sign = this.#isReversed ? -1 : 1;
        const compare = by === "model" ? order.compare : (a, b) => (a < b ? -1 : Number(a > b));
        const keyed = this.#shown.map((entry) => [keys[by](entry), entry]);
        keyed.sort(([a], [b]) => (!a || !b ? Number(!a) - Number(!b) : sign * compare(a, b)));
        this.#shown = keyed.map(([, entry]) => entry);
    }

    /** How the user rated an entry on the active model, 1 to 5; 0 if not, or while that is not known. */
    #findRating(entry) {
        return entry.head.rating || Math.max(...entry.files.map((file) => file.rating));
    }

    /** A text by which dates are sorted: by the moment, in any zone; after them what is no date. */
    #makeDateKey(date) {
        const hasZone = /T.*([Zz]|[+-]\d\d:?\d\d)$/.test(date);
        const time = Date.parse(date.includes("T") && !hasZone ? `${date}Z` : date);
        const fromYearOne = time + 62135596800000;
        return Number.isNaN(time) ? date && `~${date}` : String(Math.max(0, fromYearOne)).padStart(16, "0");
    }

    /** The file of an entry that fits the active model best. */
    #findBest(entry) {
        const rank = (file) => EmbedMergeLibrary.TONES.indexOf(file.tone);
        return entry.files.reduce((best, file) => (rank(file) < rank(best) ? file : best));
    }

    /** The file of an entry whose effect on other models is known, first the one that fits best; or undefined. */
    #findMeasured(entry) {
        return [this.#findBest(entry), ...entry.files].find((file) => file.effect);
    }

    /** The word for the effect of an entry on other models. */
    #findBand(entry) {
        return this.#findMeasured(entry)?.band ?? this.#readWord("unmeasured");
    }

    /** Draw an entry into its element of the list: the box to tick it, and what the server drew, if that is here. */
    #fill(element, entry) {
        const { place } = entry;
        element.dataset.embedmergePlace = place;
        element.dataset.embedmergeName = entry.name;
        const best = this.#findBest(entry);
        element.dataset.embedmergeStatus = best.status;
        const body = this.#drawn.get(place)?.body ?? this.#makePlaceholder(entry);
        let box = element.querySelector(".embedmerge-chosen");
        if (!box) {
            box = document.createElement("input");
            box.type = "checkbox";
            box.className = "embedmerge-chosen";
            element.append(box, body);
        } else if (element.lastChild !== body) {
            // The box stays where it is: a click is lost if its element is moved between pressing and releasing the mouse.
            element.lastChild.replaceWith(body);
        }
        box.setAttribute("aria-label", this.#makePrintable(entry.name));
        box.checked = this.#tickedPlaces.has(place);
        element.classList.toggle("embedmerge-is-ticked", box.checked);
        this.#fillFits(body, entry, best);
        this.#fillPicture(body);
    }

    /** entry: an entry or a file; undefined if it is gone. */
    #makePlaceholder(entry) {
        const body = document.createElement("div");
        body.className = "embedmerge-entry-body";
        const name = document.createElement("bdi");
        name.textContent = this.#makePrintable(entry?.name ?? "");
        body.append(name);
        return body;
    }

    /** Colour the chips of an entry, say how it fits, and offer what can be done about that. */
    #fillFits(body, entry, best) {
        for (const chip of body.querySelectorAll(".embedmerge-model")) {
            chip.dataset.embedmergeTone = this.#byPlace.get(chip.dataset.embedmergePlace)?.tone ?? "";
        }
        const line = body.querySelector(".embedmerge-entry-fit");
        if (line) {
            const waiting = this.#hasNoFits ? "" : "checking…";
            const isOfFit = (node) => !node.classList?.contains("embedmerge-of-effect");
            const nodes = best.fit ? [...best.fit.childNodes].filter(isOfFit) : [waiting];
            const badge = this.#findMeasured(entry)?.fit?.querySelector(".embedmerge-of-effect");
            line.replaceChildren(...[...nodes, badge ?? ""].map((node) => node.cloneNode?.(true) ?? node));
        }
        const remake = body.querySelector("[data-embedmerge-press=remake]");
        if (remake) {
            remake.hidden = !(best.tone === "warning" && entry.head.hasRecipe);
        }
    }

    #fillPicture(body) {
        const frame = body.querySelector(".embedmerge-picture");
        const source = this.#sources.get(body.dataset.embedmergePicture);
        if (!frame || !source || frame.firstElementChild?.src === source) {
            return;
        }
        const image = document.createElement("img");
        image.alt = "";
        image.src = source;
        frame.replaceChildren(image);
    }

    #onShown(entries) {
        this.#inSight = entries;
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#askForSight(), EmbedMergeLibrary.PAUSE);
    }

    /** Request what is missing of the entries in sight. */
    #askForSight() {
        if (!this.#wasShown) {
            return;
        }
        if (!this.#drawings.isPending && this.#listUndrawn().length) {
            this.#drawings.ask();
        }
        if (!this.#pictures.isPending && this.#listUnpictured().length) {
            this.#pictures.ask();
        }
    }

    /** Have all entries drawn again when they are in sight. */
    #outdateEntries() {
        this.#state += 1;
        for (const drawing of this.#drawn.values()) {
            drawing.isOld = true;
        }
    }

    #listUndrawn() {
        return this.#inSight.filter(({ place }) => this.#drawn.get(place)?.isOld ?? true).slice(0, 100);
    }

    #listUnpictured() {
        return this.#inSight.filter(({ place }) => {
            const number = this.#drawn.get(place)?.body.dataset.embedmergePicture;
            return number && !this.#sources.has(number);
        });
    }

    #listPlaces(entry) {
        return entry.files.map((file) => file.place);
    }

    /** Keep the entries of an answer, and draw them. */
    #showEntries() {
        const bodies = document.querySelectorAll("#embedmerge_entries .embedmerge-entry-body");
        for (const body of bodies) {
            const place = body.dataset.embedmergePlace;
            if (this.#drawn.get(place)?.html !== body.outerHTML) { // an unchanged one stays, with a button that is pressed
                this.#drawn.set(place, { body: body.cloneNode(true), html: body.outerHTML });
            }
        }
        // An answer may be about files or a model that have changed meanwhile. What it lacks, the server has no longer,
        // as the next list will say.
        const { places, state } = this.#requested;
        for (const place of places) {
            const drawing = this.#drawn.get(place) ?? { body: this.#makePlaceholder(this.#byPlace.get(place)) };
            this.#drawn.set(place, { ...drawing, isOld: state !== this.#state });
        }
        const knowsNone = places.length > 0 && bodies.length === 0; // a server that was started again, before it listed
        this.#isStale ||= knowsNone && !this.#knewNone;
        this.#knewNone = knowsNone;
        this.#forgetFirst(this.#drawn);
        this.#list.redraw();
        this.#askForSight();
    }

    #showPictures() {
        for (const picture of document.querySelectorAll("#embedmerge_pictures [data-embedmerge-picture]")) {
            this.#sources.set(picture.dataset.embedmergePicture, picture.querySelector("img")?.src ?? "");
        }
        this.#forgetFirst(this.#sources);
        this.#list.redraw();
        this.#askForSight();
    }

    /** Forget the oldest entries of a map that are too many. */
    #forgetFirst(map) {
        for (const key of [...map.keys()].slice(0, Math.max(0, map.size - EmbedMergeLibrary.KEPT))) {
            map.delete(key);
        }
    }

    /** At most `most` files whose fit is not known, those of entries in sight first. */
    #listUnmeasured(most) {
        const isUnmeasured = (file) => file.isUsable && !file.isMeasured;
        const first = this.#inSight.flatMap((entry) => entry.files).filter(isUnmeasured).slice(0, most);
        const found = new Set(first);
        for (const file of this.#files) {
            if (found.size >= most) {
                break;
            }
            if (isUnmeasured(file)) {
                found.add(file);
            }
        }
        return [...found];
    }

    /** Keep the fits of an answer. */
    #showFits() {
        const fits = new Map();
        for (const fit of document.querySelectorAll("#embedmerge_fits [data-embedmerge-place]")) {
            fits.set(fit.dataset.embedmergePlace, fit);
        }
        // Without a model there are no fits. They are requested again when the model or the list changes.
        this.#setNoFits(fits.size === 0 && this.#requestedFiles.length > 0);
        for (const file of this.#requestedFiles) {
            const fit = fits.get(file.place);
            if (fit) {
                file.fit = fit.cloneNode(true);
                file.isMeasured = true;
                file.status = fit.dataset.embedmergeStatus;
                file.tone = fit.dataset.embedmergeTone;
                file.rating = Number(fit.dataset.embedmergeRating);
                file.effect = fit.dataset.embedmergeEffect;
                file.band = fit.dataset.embedmergeBand;
            }
        }
        const { fit, effect, rating, sort } = this.#filters;
        if (fit || effect || rating || ["fit", "rating", "effect"].includes(sort)) {
            this.#arrange();
        }
        this.#list.redraw();
    }

    /** Remember whether there are no fits to be measured. */
    #setNoFits(hasNone) {
        this.#hasNoFits = hasNone;
    }

    /** Mark all fits as not measured, so that they are requested again, and all entries as old. */
    #forgetFits() {
        this.#setNoFits(false);
        if (this.#fits.isPending) {
            this.#fits.ask(); // the answer that is awaited may be that of the old model
        }
        for (const file of this.#files) {
            if (file.isUsable) {
                Object.assign(file, {
                    fit: null, isMeasured: false, rating: 0, effect: "", band: "",
                    status: this.#readWord("unmeasured"), tone: "unmeasured",
                });
            }
        }
        this.#outdateEntries();
        this.#list?.redraw();
    }

    #tick({ place }, isTicked) {
        this.#tickedPlaces[isTicked ? "add" : "delete"](place);
    }

    /** Update what depends on the ticked entries: the files for actions, the bar, the boxes for name and notes. */
    #updateTicked() {
        const ticked = this.#entries.filter((entry) => this.#tickedPlaces.has(entry.place));
        const tickedFiles = JSON.stringify(ticked.map((entry) => entry.place));
        const hasChanged = tickedFiles !== this.tickedFiles;
        this.tickedFiles = tickedFiles;
        this.tickedWithVersions = JSON.stringify(ticked.flatMap((entry) => this.#listPlaces(entry)));
        this.#showBar(ticked);
        for (const name of ["rename", "recover"]) { // of one file only
            const button = document.querySelector(`#embedmerge_${name}`);
            if (button) {
                button.disabled = ticked.length > 1;
                button.title = ticked.length > 1 ? "Tick only one embedding for this." : "";
            }
        }
        if (hasChanged) {
            this.#setAsking(false);
            this.#list?.redraw();
        }
        if (hasChanged && ticked.length === 1) {
            this.#write(this.#findBox("newname"), ticked[0].name);
        }
        this.#showNotes(ticked, hasChanged);
        const every = document.querySelector("#embedmerge_cards .embedmerge-every");
        if (every) {
            const count = this.#shown.filter((entry) => this.#tickedPlaces.has(entry.place)).length;
            every.checked = count > 0 && count === this.#shown.length;
            every.indeterminate = count > 0 && count < this.#shown.length;
        }
    }

    /** Name the ticked entries in the bar, also those that the filters hide. */
    #showBar(ticked) {
        const bar = document.querySelector("#embedmerge_cards .embedmerge-ticked-bar");
        if (!bar) {
            return;
        }
        const shown = new Set(this.#shown.map((entry) => entry.place));
        const names = ticked.slice(0, EmbedMergeLibrary.NAMES).map((entry) => {
            const name = document.createElement("bdi");
            name.textContent = this.#makePrintable(entry.name) + (shown.has(entry.place) ? "" : " (not shown)");
            return name;
        });
        const nodes = names.flatMap((name, index) => (index ? [", ", name] : [name]));
        const more = ticked.length - names.length;
        const hidden = ticked.filter((entry) => !shown.has(entry.place)).length;
        const count = `${this.#formatNumber(ticked.length)} ticked`;
        const tail = [
            more > 0 ? ` and ${this.#formatNumber(more)} more` : "",
            hidden && ticked.length > 1 ? ` (${this.#formatNumber(hidden)} not shown)` : "",
        ];
        const isEmpty = ticked.length === 0;
        bar.querySelector(".embedmerge-ticked").replaceChildren(count, ...(isEmpty ? [] : [": ", ...nodes, ...tail]));
        bar.hidden = isEmpty;
    }

    /** Ask in the bar whether the ticked entries are to be deleted. */
    #askToDelete() {
        const [entries, files] = [JSON.parse(this.tickedFiles), JSON.parse(this.tickedWithVersions)];
        const count = this.#formatCount(entries.length, this.#layout === "files" ? "file" : "embedding");
        const versions = files.length - entries.length;
        const also = versions ? ` with ${this.#formatCount(versions, "version")} for other models` : "";
        const question = document.querySelector("#embedmerge_cards .embedmerge-question");
        question.textContent = `Delete ${count}${also}?`;
        this.#setAsking(true);
        document.querySelector("#embedmerge_cards [data-embedmerge-action=agree-delete]").focus();
    }

    #setAsking(isAsking) {
        document.querySelector("#embedmerge_cards .embedmerge-ticked-bar")
            ?.classList.toggle("embedmerge-is-asking", isAsking);
    }

    /** Show the notes that the entries have in common, unless the box has changes that are not saved yet. */
    #showNotes(entries, hasChanged) {
        const box = this.#findBox("newnotes");
        if (!box) {
            return;
        }
        // With line feeds, as in the value of a text box.
        const distinct = new Set(
            entries.map(({ head }) => (head.isCut ? undefined : head.notes.replace(/\r\n?/g, "\n"))),
        );
        const notes = (distinct.size === 1 && [...distinct][0]) || "";
        const several = distinct.size > 1 ? "different notes" : "";
        box.placeholder = distinct.has(undefined) ? "too long to show here" : several;
        const isUntouched = box.value === this.#shownNotes || (hasChanged && !box.value);
        if (isUntouched && box.value !== notes) {
            this.#write(box, notes);
        }
        if (isUntouched || box.value.trim() === notes.trim()) {
            this.#shownNotes = box.value;
        }
    }

    /** Write the name of the file that fits best into the prompt, or copy it on a page without prompts. */
    #use(button, place) {
        const entry = this.#entries.find((one) => one.place === place);
        const { name } = entry ? this.#findBest(entry) : this.#byPlace.get(place);
        window.embedMerge.use(button, name);
    }

    #openAccordion(name) {
        const label = document.querySelector(`#embedmerge_${name} .label-wrap`);
        if (label && !label.classList.contains("open")) {
            label.click();
        }
        document.querySelector(`#embedmerge_${name}`)?.scrollIntoView({ block: "center" });
    }

    #chooseLayout(layout) {
        this.#layout = layout;
        this.#drawn.clear(); // entries of files are drawn in another way than those of concepts
        this.#storeChoices();
        this.#showChoices();
        this.#group();
    }

    /** Show the chosen values in the controls. */
    #showChoices() {
        const root = document.querySelector("#embedmerge_finding");
        for (const control of root.querySelectorAll("[data-embedmerge-filter]")) {
            control.value = this.#filters[control.dataset.embedmergeFilter];
        }
        for (const button of root.querySelectorAll("[data-embedmerge-layout]")) {
            button.ariaPressed = String(button.dataset.embedmergeLayout === this.#layout);
        }
        const box = document.querySelector("#embedmerge_cards .embedmerge-list");
        box.classList.toggle("embedmerge-as-cards", this.#layout === "cards");
    }

    /** Offer texts that files have as choices of a filter. A choice that is gone is given up. */
    #offer(name, texts) {
        const control = document.querySelector(`#embedmerge_finding [data-embedmerge-filter=${name}]`);
        const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
        const options = texts.filter(Boolean).sort(order.compare).map((text) => {
            const option = document.createElement("option");
            option.value = text;
            option.textContent = this.#makePrintable(text);
            return option;
        });
        control.replaceChildren(control.firstElementChild, ...options);
        control.value = this.#filters[name] = texts.includes(this.#filters[name]) ? this.#filters[name] : "";
    }

    #restoreChoices() {
        try {
            const { layout, sort, isReversed } = JSON.parse(localStorage.getItem(EmbedMergeLibrary.STORE)) ?? {};
            this.#layout = ["cards", "rows", "files"].includes(layout) ? layout : this.#layout;
            this.#filters.sort = ["name", "date", "model", "fit", "effect", "rating", "count"].includes(sort) ? sort : "name";
            this.#isReversed = isReversed === true;
        } catch {
            // The browser keeps nothing for this page, or something else.
        }
    }

    #storeChoices() {
        const choices = { layout: this.#layout, sort: this.#filters.sort, isReversed: this.#isReversed };
        try {
            localStorage.setItem(EmbedMergeLibrary.STORE, JSON.stringify(choices));
        } catch {
            // The browser keeps nothing for this page.
        }
    }

    /** Click a button of the tab by its name, if it exists. */
    #press(name) {
        document.querySelector(`#embedmerge_${name}`)?.click();
    }

    /** The word that the page shows for a state: `unmeasured` or `unusable`. */
    #readWord(state) {
        return document.querySelector("#embedmerge_cards .embedmerge-frame")?.getAttribute(`data-embedmerge-${state}`) ?? "";
    }

    #findBox(name) {
        return document.querySelector(`#embedmerge_${name} textarea, #embedmerge_${name} input`);
    }

    /** A text without characters that are not visible, which could hide what it says. */
    #makePrintable(text) {
        return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
    }

    #formatCount(count, thing) {
        return `${this.#formatNumber(count)} ${thing}${count === 1 ? "" : "s"}`;
    }

    /** A number in the form in which the server writes numbers. */
    #formatNumber(number) {
        return number.toLocaleString("en");
    }

    /** Write a text into a box as if it had been typed. */
    #write(box, text) {
        if (box) {
            box.value = text;
            box.dispatchEvent(new Event("input", { bubbles: true }));
        }
    }
}

window.embedMergeLibrary = new EmbedMergeLibrary();
