// What src/page/charts.js uses of Apache ECharts; everything else is left out of the bundle (scripts/bundle-charts).
import {format, getInstanceByDom, init, use} from 'echarts/core';
import {BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart} from 'echarts/charts';
import {GridComponent, LegendPlainComponent, MarkLineComponent, ToolboxComponent, TooltipComponent, VisualMapContinuousComponent} from 'echarts/components';
import {LabelLayout} from 'echarts/features';
import {SVGRenderer} from 'echarts/renderers';

use([BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart, GridComponent, LegendPlainComponent, MarkLineComponent, ToolboxComponent, TooltipComponent, VisualMapContinuousComponent, LabelLayout, SVGRenderer]);

export {format, getInstanceByDom, init};
