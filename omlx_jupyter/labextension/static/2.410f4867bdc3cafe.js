"use strict";(self.rspackChunkomlx_jupyter=self.rspackChunkomlx_jupyter||[]).push([[2],{25(o,e,r){var t=r(26),n=r.n(t),a=r(27),i=r.n(a),l=r(28),p=i()(n());p.i(l.A),p.push([o.id,`.omlx-panel {
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size1);
  overflow-y: auto;
  padding: 8px;
  min-width: 220px;
}

.omlx-form {
  display: flex;
  flex-wrap: wrap;
  gap: 6px;
  align-items: center;
}

.omlx-field {
  display: flex;
  gap: 6px;
  align-items: center;
  flex: 1 1 140px;
}

.omlx-field input {
  flex: 1;
  min-width: 0;
  width: 100%;
  box-sizing: border-box;
  color: var(--jp-ui-font-color1);
  background: var(--jp-input-background, var(--jp-layout-color1));
  border: 1px solid var(--jp-border-color1);
  padding: 3px 6px;
}

.omlx-button {
  color: var(--jp-ui-font-color1);
  background: var(--jp-layout-color2);
  border: 1px solid var(--jp-border-color1);
  border-radius: 2px;
  padding: 2px 8px;
  cursor: pointer;
}

.omlx-button:disabled,
.omlx-field input:disabled {
  cursor: default;
  color: var(--jp-ui-font-color2);
}

.omlx-button:focus-visible,
.omlx-field input:focus-visible,
.omlx-status:focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: 1px;
}

.omlx-note:empty {
  display: none;
}

.omlx-lists h4 {
  margin: 10px 0 2px;
  font-size: 12px;
}

.omlx-list {
  list-style: none;
  margin: 0;
  padding: 0;
}

.omlx-list li {
  display: flex;
  gap: 6px;
  align-items: center;
  padding: 2px 0;
}

.omlx-list li span {
  flex: 1;
  overflow-wrap: anywhere;
}

.omlx-status {
  color: inherit;
  background: none;
  border: none;
  font: inherit;
  padding: 0 6px;
  cursor: pointer;
  white-space: nowrap;
}
`,""]),r.d(e,{},{A:p})},28(o,e,r){var t=r(26),n=r.n(t),a=r(27),i=(r.n(a))()(n());i.push([o.id,`.omlx-dashboard { font-size: 13px; color: var(--jp-ui-font-color1, inherit); padding: 4px 8px; container-type: inline-size; }
.omlx-dashboard h4 { margin: 8px 0 2px; font-size: 12px; font-weight: 600; color: var(--jp-ui-font-color1, inherit); }
.omlx-dashboard .omlx-head { display: flex; gap: 10px; align-items: center; flex-wrap: wrap; }
.omlx-row { display: grid; grid-template-columns: minmax(80px, 24%) 1fr minmax(90px, 34%); gap: 8px; align-items: center; }
.omlx-track { display: flex; height: 10px; background: var(--jp-layout-color3, #8884); border-radius: 3px; overflow: hidden; }
.omlx-figure { font-variant-numeric: tabular-nums; color: var(--jp-ui-font-color1, inherit); }
.omlx-quiet { margin: 2px 0; color: var(--jp-ui-font-color1, inherit); opacity: 0.85; }
.omlx-part { background: #2f7fd1; }
.omlx-reading { background: #8e5bd0; }
.omlx-prefill { background: #c77700; }
.omlx-decode, .omlx-ram { background: #2e8b57; }
.omlx-ssd { background: #2f7fd1; }
.omlx-computed, .omlx-queued { background: #8a8a8a; }
.omlx-speed { width: 120px; height: 24px; }
.omlx-speed polyline { fill: none; stroke: currentColor; stroke-width: 1.5; }
@container (max-width: 380px) { .omlx-row { grid-template-columns: 1fr; gap: 1px; } }
`,""]),r.d(e,{},{A:i})},27(o){o.exports=function(o){var e=[];return e.toString=function(){return this.map(function(e){var r="",t=void 0!==e[5];return e[4]&&(r+="@supports (".concat(e[4],") {")),e[2]&&(r+="@media ".concat(e[2]," {")),t&&(r+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),r+=o(e),t&&(r+="}"),e[2]&&(r+="}"),e[4]&&(r+="}"),r}).join("")},e.i=function(o,r,t,n,a){"string"==typeof o&&(o=[[null,o,void 0]]);var i={};if(t)for(var l=0;l<this.length;l++){var p=this[l][0];null!=p&&(i[p]=!0)}for(var s=0;s<o.length;s++){var c=[].concat(o[s]);t&&i[c[0]]||(void 0!==a&&(void 0===c[5]||(c[1]="@layer".concat(c[5].length>0?" ".concat(c[5]):""," {").concat(c[1],"}")),c[5]=a),r&&(c[2]&&(c[1]="@media ".concat(c[2]," {").concat(c[1],"}")),c[2]=r),n&&(c[4]?(c[1]="@supports (".concat(c[4],") {").concat(c[1],"}"),c[4]=n):c[4]="".concat(n)),e.push(c))}},e}},26(o){o.exports=function(o){return o[1]}},19(o){var e=[];function r(o){for(var r=-1,t=0;t<e.length;t++)if(e[t].identifier===o){r=t;break}return r}function t(o,t){for(var n={},a=[],i=0;i<o.length;i++){var l=o[i],p=t.base?l[0]+t.base:l[0],s=n[p]||0,c="".concat(p," ").concat(s);n[p]=s+1;var d=r(c),u={css:l[1],media:l[2],sourceMap:l[3],supports:l[4],layer:l[5]};if(-1!==d)e[d].references++,e[d].updater(u);else{var f=function(o,e){var r=e.domAPI(e);return r.update(o),function(e){e?(e.css!==o.css||e.media!==o.media||e.sourceMap!==o.sourceMap||e.supports!==o.supports||e.layer!==o.layer)&&r.update(o=e):r.remove()}}(u,t);t.byIndex=i,e.splice(i,0,{identifier:c,updater:f,references:1})}a.push(c)}return a}o.exports=function(o,n){var a=t(o=o||[],n=n||{});return function(o){o=o||[];for(var i=0;i<a.length;i++){var l=r(a[i]);e[l].references--}for(var p=t(o,n),s=0;s<a.length;s++){var c=r(a[s]);0===e[c].references&&(e[c].updater(),e.splice(c,1))}a=p}}},21(o){var e={};o.exports=function(o,r){var t=function(o){if(void 0===e[o]){var r=document.querySelector(o);if(window.HTMLIFrameElement&&r instanceof window.HTMLIFrameElement)try{r=r.contentDocument.head}catch(o){r=null}e[o]=r}return e[o]}(o);if(!t)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");t.appendChild(r)}},23(o){o.exports=function(o){var e=document.createElement("style");return o.setAttributes(e,o.attributes),o.insert(e,o.options),e}},22(o,e,r){o.exports=function(o){var e=r.nc;e&&o.setAttribute("nonce",e)}},20(o){o.exports=function(o){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=o.insertStyleElement(o);return{update:function(r){var t,n,a;t="",r.supports&&(t+="@supports (".concat(r.supports,") {")),r.media&&(t+="@media ".concat(r.media," {")),(n=void 0!==r.layer)&&(t+="@layer".concat(r.layer.length>0?" ".concat(r.layer):""," {")),t+=r.css,n&&(t+="}"),r.media&&(t+="}"),r.supports&&(t+="}"),(a=r.sourceMap)&&"u">typeof btoa&&(t+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(a))))," */")),o.styleTagTransform(t,e,o.options)},remove:function(){var o;null===(o=e).parentNode||o.parentNode.removeChild(o)}}}},24(o){o.exports=function(o,e){if(e.styleSheet)e.styleSheet.cssText=o;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(o))}}},18(o,e,r){var t=r(19),n=r.n(t),a=r(20),i=r.n(a),l=r(21),p=r.n(l),s=r(22),c=r.n(s),d=r(23),u=r.n(d),f=r(24),x=r.n(f),m=r(25),v={};v.styleTagTransform=x(),v.setAttributes=c(),v.insert=p().bind(null,"head"),v.domAPI=i(),v.insertStyleElement=u(),n()(m.A,v),m.A&&m.A.locals&&m.A.locals}}]);