"use strict";
(function () {
	function el(name, text) {
		var e = document.createElement(name);
		if (text !== undefined)
			e.textContent = text;
		return e;
	}
	function ms(n) {
		if (n === null || n === undefined)
			return "";
		var a = Math.abs(n);
		return a >= 1000 ? (n / 1000).toFixed(2) + " s" : a >= 10 ? n.toFixed(0) + " ms" : n.toFixed(2) + " ms";
	}
	function chart() {
		var box = document.getElementById("chart"), source = document.getElementById("data");
		if (!box || !source)
			return;
		var data = JSON.parse(source.textContent), lanes = [].slice.call(box.querySelectorAll("[data-series]"));
		var over = box.querySelector(".over"), cross = el("div"), tip = el("div"), at = -1;
		cross.className = "cross";
		tip.className = "tip";
		tip.setAttribute("role", "status");
		cross.hidden = tip.hidden = true;
		box.appendChild(cross);
		box.appendChild(tip);

		function show(bucket) {
			var plot = over.getBoundingClientRect(), outer = box.getBoundingClientRect();
			at = Math.max(0, Math.min(data.buckets - 1, bucket));
			var from = at * data.bucket_ms, table = el("table"), head = table.insertRow();
			["", "ok", "failed", "unknown", "median", "longest"].forEach(function (t) {
				head.appendChild(el("th", t));
			});
			lanes.forEach(function (lane) {
				var s = data.clients[+lane.dataset.series], row = table.insertRow();
				if (!s)
					return;
				row.insertCell().textContent = s.client;
				["ok", "failed", "unknown"].forEach(function (k) {
					var n = (s[k] || [])[at];
					row.insertCell().textContent = n === undefined ? "" : n;
				});
				row.insertCell().textContent = ms((s.p50_ms || [])[at]);
				row.insertCell().textContent = ms((s.max_ms || [])[at]);
			});
			var since = data.t0_ms === null ? from : from - data.t0_ms;
			tip.replaceChildren(el("strong", (data.t0_ms === null ? "run + " : since < 0 ? "T0 \u2212 " : "T0 + ") +
				(Math.abs(since) / 1000).toFixed(2) + " s"), table);
			cross.hidden = tip.hidden = false;
			var x = plot.left - outer.left + (from + data.bucket_ms / 2 - data.from_ms) / (data.to_ms - data.from_ms) * plot.width;
			cross.style.left = x + "px";
			var width = tip.offsetWidth, left = x + 14;
			if (left + width > outer.width)
				left = Math.max(0, x - width - 14);
			tip.style.left = left + "px";
			tip.style.top = "34px";
		}
		function hide() {
			cross.hidden = tip.hidden = true;
		}
		box.addEventListener("pointermove", function (e) {
			var plot = over.getBoundingClientRect(), x = (e.clientX - plot.left) / plot.width;
			if (x < 0 || x > 1)
				return hide();
			show(Math.floor((data.from_ms + x * (data.to_ms - data.from_ms)) / data.bucket_ms));
		});
		box.addEventListener("pointerleave", hide);
		box.addEventListener("blur", hide);
		box.addEventListener("keydown", function (e) {
			var step = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0;
			if (!step)
				return e.key === "Escape" && hide();
			e.preventDefault();
			show(at < 0 ? Math.floor((data.t0_ms || 0) / data.bucket_ms) : at + step * (e.shiftKey ? 10 : 1));
		});
		box.tabIndex = 0;
	}
	function filter() {
		var table = document.getElementById("events");
		if (!table)
			return;
		var rows = [].slice.call(table.tBodies[0].rows), off = {}, bar = el("div"), search = el("input"), kinds = {};
		bar.className = "filter";
		search.type = "search";
		search.placeholder = "search the events";
		search.setAttribute("aria-label", "search the events");
		bar.appendChild(search);
		function apply() {
			var text = search.value.toLowerCase();
			rows.forEach(function (r) {
				r.hidden = off[r.dataset.kind] || (text && r.textContent.toLowerCase().indexOf(text) < 0);
			});
		}
		rows.forEach(function (r) {
			if (kinds[r.dataset.kind])
				return;
			kinds[r.dataset.kind] = true;
			var label = el("label"), check = el("input");
			check.type = "checkbox";
			check.checked = true;
			check.addEventListener("change", function () {
				off[r.dataset.kind] = !check.checked;
				apply();
			});
			label.appendChild(check);
			label.appendChild(document.createTextNode(" " + r.dataset.kind));
			bar.appendChild(label);
		});
		search.addEventListener("input", apply);
		table.parentNode.parentNode.insertBefore(bar, table.parentNode);
	}
	chart();
	filter();
})();
